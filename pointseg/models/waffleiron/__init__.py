"""WaffleIron (Puy, Boulch, Marlet, ICCV 2023): points mixed on three planes by small convolutions, and channel by channel."""
