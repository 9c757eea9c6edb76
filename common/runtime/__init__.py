"""How a prompt and an image reach the network: in MONAI's engines, from Python, exported."""
