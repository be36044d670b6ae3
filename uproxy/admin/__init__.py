"""What operators and their monitoring ask: health, metrics, proxy mode."""
