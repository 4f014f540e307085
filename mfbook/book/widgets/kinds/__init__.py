"""The explorers, a file each, named as their front ends are."""
