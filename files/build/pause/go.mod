module kubescale.fleet/build/pause

go 1.26
