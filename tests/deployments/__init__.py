"""The files of `deployments`, which no machine here can run: held against what will run them."""
