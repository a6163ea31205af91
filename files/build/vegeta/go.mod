module kubescale.fleet/build/vegeta

go 1.26

require (
	github.com/tsenart/vegeta/v12 v12.13.0
)
