# Which packages are tested how. Sourced by test.sh.
#
# The race detector costs a factor of five to ten in time: it is for the packages
# with goroutines and locks in them. The others have nothing to race.
concurrent='^(client|internal/(api|chain|httpsig|identity/ca|ledger|registry|institution|signing|vault))(/|$)'

packages() {
	"$GO" list ./... | sed "s,^$("$GO" list -m)/,," | grep -v -e '^test/' -e '^internal/archtest$'
}
with_race() { packages | grep -E "$concurrent" | sed 's,^,./,'; }
without_race() { packages | grep -Ev "$concurrent" | sed 's,^,./,'; }
