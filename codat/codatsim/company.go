package codatsim

import (
	"fmt"
	"strings"
)

// Company is a company that the simulator knows.
type Company struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Connection is a company's link to one accounting platform.
type Connection struct {
	ID       string `json:"id"`
	Platform string `json:"platform"`
}

var (
	ownerNames = [...]string{"Toft", "Marsh", "Ellery", "Brandt", "Okafor", "Lindqvist", "Harrow", "Castell",
		"Dunmore", "Ferreira", "Wainwright", "Novak", "Pellegrin", "Ashdown", "Kestrel", "Rosario"}
	tradeNames = [...]string{"Stores", "Bakery", "Joinery", "Logistics", "Foods", "Roofing", "Print Works",
		"Cycles", "Vineyards", "Dental", "Textiles", "Nurseries"}
)

// MakeCompanies returns n companies whose ids and names depend on seed alone: the
// first of them are the same whatever n is. Ids are distinct UUIDs.
func MakeCompanies(seed uint64, n int) []Company {
	companies := make([]Company, n)
	for i := range companies {
		d := dice(seed, word("company"), uint64(i))
		companies[i] = Company{
			ID:   uuid(d),
			Name: ownerNames[d.IntN(len(ownerNames))] + " " + tradeNames[d.IntN(len(tradeNames))],
		}
	}
	return companies
}

// connectionsOf returns the connections of a company, one per law, in their order.
func connectionsOf(seed uint64, companyID string, laws []Law) []Connection {
	connections := make([]Connection, len(laws))
	for i, law := range laws {
		d := dice(seed, word("connection"), word(companyID), uint64(i))
		connections[i] = Connection{ID: uuid(d), Platform: law.Platform}
	}
	return connections
}

func validateCompanies(companies []Company) error {
	seen := map[string]bool{}
	for _, c := range companies {
		switch {
		case strings.TrimSpace(c.ID) == "":
			return fmt.Errorf("company %q has no id", c.Name)
		case seen[c.ID]:
			return fmt.Errorf("company %s is there twice", c.ID)
		}
		seen[c.ID] = true
	}
	return nil
}
