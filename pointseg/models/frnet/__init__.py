"""FRNet: a range image and the points behind its pixels, in pure PyTorch (Xu, Kong, Shuai, Liu, IEEE TIP 2025)."""
