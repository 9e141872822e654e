package codatsim

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Answers that are rendered beforehand are byte for byte those that the simulator
// gives.
func TestARenderedPageIsTheSimulatorsOwn(t *testing.T) {
	sim, _ := world(t, Config{Seed: 1, History: 7})
	id := sim.cfg.Companies[0].ID
	for number := 1; number <= 3; number++ {
		answer := knock(sim, pageLinks(Request{CompanyID: id, Page: number}, 3, false).Current.Href)
		require.Equal(t, 200, answer.Code, answer.Body)
		var page struct {
			Results []WireOperation `json:"results"`
		}
		require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &page))
		assert.Equal(t, answer.Body.String(), string(RenderPage(id, page.Results, number, 3, 7)))
	}
}
