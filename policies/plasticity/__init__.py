"""What is measured of a network and of its ability to learn: a small file each, knowing neither runs nor ledgers."""
