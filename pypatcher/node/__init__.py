"""What a device does with the network: looks, fetches, serves, meets others, and says how it goes."""
