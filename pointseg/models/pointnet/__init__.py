"""PointNet for segmentation (Qi et al., CVPR 2017): the plain network, and its fast forms."""
