"""The same requests given to our plugins and to the reference ones, and everything that they leave compared."""
