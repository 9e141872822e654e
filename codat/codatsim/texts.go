package codatsim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// pushType is a data type that can be pushed: how often, how one is called in a
// message, and what goes wrong with it.
type pushType struct {
	name     string // empty: null, which Codat allows
	weight   float64
	noun     string
	troubles []trouble
}

type trouble struct{ item, message string }

var pushTypes = [...]pushType{
	{"invoices", 34, "Invoice", []trouble{
		{"lineItems[#].accountRef.id", "Account %q is not active and cannot be used on an invoice line."},
		{"customerRef.id", "Customer %q could not be found in the accounting platform."},
		{"lineItems[#].taxRateRef.id", "Tax rate %q cannot be applied to a sales line."},
		{"invoiceNumber", "Invoice number %q is already in use. Use a distinct number, or leave it empty."},
	}},
	{"bills", 20, "Bill", []trouble{
		{"supplierRef.id", "Supplier %q is archived; bills can only be raised for active suppliers."},
		{"lineItems[#].accountRef.id", "Account %q is a system account and cannot be posted to."},
		{"dueDate", "Due date lies before the issue date of bill %q."},
	}},
	{"journalEntries", 10, "Journal entry", []trouble{
		{"journalLines", "Journal %q does not balance: the sum of the net amounts must be zero."},
		{"postedOn", "The period of journal %q is locked in the accounting platform."},
	}},
	{"payments", 10, "Payment", []trouble{
		{"lines[#].links", "The amount allocated to invoice %q is more than is outstanding."},
		{"accountRef.id", "Account %q is not a bank account."},
	}},
	{"customers", 7, "Customer", []trouble{{"customerName", "A contact named %q exists already."}}},
	{"billPayments", 6, "Bill payment", []trouble{{"accountRef.id", "Account %q does not allow payments."}}},
	{"creditNotes", 4, "Credit note", []trouble{{"customerRef.id", "Customer %q could not be found."}}},
	{"suppliers", 3, "Supplier", []trouble{{"supplierName", "A contact named %q exists already."}}},
	{"chartOfAccounts", 2, "Account", []trouble{{"nominalCode", "Code %q must be unique among accounts."}}},
	{"directCosts", 2, "Direct cost", []trouble{{"lineItems[#].accountRef.id", "Account %q is not an expense account."}}},
	{"commerce-payments", 1, "Payment", []trouble{{"id", "Payment %q was recorded by another application."}}},
	{"", 1, "Record", []trouble{{"", "Record %q was refused by the accounting platform."}}},
}

func pickDataType(d *rand.Rand) string {
	return pushTypes[pick(d, len(pushTypes), func(i int) float64 { return pushTypes[i].weight })].name
}

// typeOf returns what is known of a data type; of an unknown one, what is known
// of the record without a type.
func typeOf(name string) pushType {
	for _, t := range pushTypes {
		if t.name == name {
			return t
		}
	}
	return pushTypes[len(pushTypes)-1]
}

// texts returns the dice for the texts of an operation, so that they read the
// same at each look.
func (v view) texts(what string) *rand.Rand { return dice(v.seed, word(what)) }

func (v view) errorMessage() *string {
	var text string
	if v.padding > 0 {
		text = strings.Repeat("-", v.padding)
		return &text
	}
	switch v.now.Status {
	case Failed:
		errors := len(v.validation().Errors)
		text = fmt.Sprintf("Failed to push %s: %d validation error(s) returned by the accounting platform.", typeOf(v.dataType).noun, errors)
	case TimedOut:
		text = "The push operation did not complete before its timeout."
		if v.timeout > 0 {
			text = fmt.Sprintf("The push operation did not complete within %d minutes.", v.timeout)
		}
	case Cancelled:
		text = "The push operation was cancelled."
	default:
		return nil
	}
	if v.message != "" {
		text = v.message
	}
	return &text
}

// validation has errors for a failure and sometimes a warning for a success;
// everything else has null, which is not the same as two empty lists.
func (v view) validation() *WireValidation {
	d := v.texts("validation")
	result := &WireValidation{Errors: []WireValidationItem{}, Warnings: []WireValidationItem{}}
	switch v.now.Status {
	case Failed:
		for range 1 + d.IntN(2) {
			result.Errors = append(result.Errors, v.remark(d))
		}
		if d.IntN(4) == 0 {
			result.Warnings = nil
		}
	case Success:
		if d.IntN(8) != 0 {
			return nil
		}
		result.Warnings = append(result.Warnings, WireValidationItem{
			Message:       optional("Amounts were rounded to two decimal places."),
			ValidatorName: optional("RoundingValidator"),
		})
	default:
		return nil
	}
	return result
}

func (v view) remark(d *rand.Rand) WireValidationItem {
	t := typeOf(v.dataType)
	trouble := t.troubles[d.IntN(len(t.troubles))]
	number := fmt.Sprintf("%s-%04d", strings.ToUpper(t.noun[:2]), d.IntN(10000))
	return WireValidationItem{
		ItemID:        optional(strings.ReplaceAll(trouble.item, "#", strconv.Itoa(d.IntN(5)))),
		Message:       optional(fmt.Sprintf(trouble.message, number)),
		ValidatorName: optional(strings.ReplaceAll(t.noun, " ", "") + "Validator"),
	}
}

// changes tells which record a success made or modified.
func (v view) changes() []WireChange {
	if v.now.Status != Success {
		return nil
	}
	d := v.texts("changes")
	change := WireChange{Type: "Created", RecordRef: WireRecordRef{ID: uuid(d), DataType: v.dataType}}
	switch d.IntN(10) {
	case 0:
		change.Type = "Modified"
	case 1:
		change.Type, change.AttachmentID = "AttachmentUploaded", optional(uuid(d))
	}
	return []WireChange{change}
}
