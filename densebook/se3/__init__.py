"""SE3-Unet: representations, the SE(3)-Transformer, an equivariant U-Net, landmarks on faces."""
