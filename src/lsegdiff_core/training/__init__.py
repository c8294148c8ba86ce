"""Training of both stages: mask VAE, then image encoder and denoiser."""
