package codatsim

// option is one field that a push takes; an Array's properties are those of its
// items.
type option struct {
	Type        string            `json:"type"`
	DisplayName string            `json:"displayName"`
	Description string            `json:"description"`
	Required    bool              `json:"required"`
	Properties  map[string]option `json:"properties,omitempty"`
	Options     []choice          `json:"options,omitempty"`
	Validation  *advice           `json:"validation,omitempty"`
}

// choice is one of the values that a field takes.
type choice struct {
	Value       string `json:"value"`
	Type        string `json:"type"`
	DisplayName string `json:"displayName"`
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required"`
}

// advice is what the platform says of a field beforehand.
type advice struct {
	Warnings    []remark `json:"warnings"`
	Information []remark `json:"information"`
}

type remark struct {
	Field   string `json:"field"`
	Details string `json:"details"`
	Ref     string `json:"ref,omitempty"`
}

// optionsFor returns the options of a data type for one connection, and whether
// that connection can push it. Accounts and tax rates are the connection's own.
func optionsFor(connection Connection, dataType string) (option, bool) {
	accounts, taxes := ledgerChoices(connection), taxChoices()
	switch dataType {
	case "invoices":
		return object("Invoice", "An itemised record of goods sold to a customer.", map[string]option{
			"invoiceNumber": advised(leaf("String", "Invoice number", "Number that your customer sees.", false),
				"invoiceNumber", "Must be unique, and no longer than 21 characters."),
			"customerRef": reference("Customer", true, nil),
			"issueDate":   leaf("DateTime", "Issue date", "Date of the invoice.", true),
			"dueDate":     leaf("DateTime", "Due date", "Date on which payment is due.", false),
			"currency":    leaf("String", "Currency", "ISO 4217 code.", false),
			"status":      oneOf("Status", true, "Draft", "Submitted", "Paid"),
			"lineItems":   array("Line items", true, lineItems(accounts, taxes)),
		}), true
	case "bills":
		return object("Bill", "An invoice received from a supplier.", map[string]option{
			"reference":   leaf("String", "Reference", "The supplier's number.", false),
			"supplierRef": reference("Supplier", true, nil),
			"issueDate":   leaf("DateTime", "Issue date", "Date of the bill.", true),
			"dueDate":     leaf("DateTime", "Due date", "Date on which payment is due.", true),
			"status":      oneOf("Status", true, "Open", "Draft"),
			"lineItems":   array("Line items", true, lineItems(accounts, taxes)),
		}), true
	case "journalEntries":
		return object("Journal entry", "A posting to the general ledger.", map[string]option{
			"postedOn":    leaf("DateTime", "Posted on", "Date of the posting.", true),
			"description": leaf("String", "Description", "Shown in the ledger.", false),
			"journalLines": array("Journal lines", true, map[string]option{
				"accountRef": reference("Account", true, accounts),
				"netAmount": advised(leaf("Number", "Net amount", "Debit positive, credit negative.", true),
					"netAmount", "The lines must add up to zero."),
				"description": leaf("String", "Description", "Shown beside the line.", false),
			}),
		}), true
	case "customers":
		return object("Customer", "Somebody who buys.", map[string]option{
			"customerName": leaf("String", "Name", "Name of the customer.", true),
			"emailAddress": leaf("String", "E-mail", "Where invoices go.", false),
			"isActive":     leaf("Boolean", "Active", "Whether new invoices may be raised.", false),
			"addresses": array("Addresses", false, map[string]option{
				"type":    oneOf("Type", true, "Billing", "Delivery"),
				"line1":   leaf("String", "Line 1", "First line.", false),
				"country": leaf("String", "Country", "ISO 3166 code.", false),
			}),
		}), true
	}
	return option{}, false
}

func lineItems(accounts, taxes []choice) map[string]option {
	return map[string]option{
		"description": leaf("String", "Description", "What was delivered.", true),
		"quantity":    leaf("Number", "Quantity", "How many.", true),
		"unitAmount":  leaf("Number", "Unit amount", "Price of one, without tax.", true),
		"accountRef":  reference("Account", true, accounts),
		"taxRateRef":  reference("Tax rate", false, taxes),
	}
}

func leaf(kind, name, description string, required bool) option {
	return option{Type: kind, DisplayName: name, Description: description, Required: required}
}

func object(name, description string, properties map[string]option) option {
	return option{Type: "Object", DisplayName: name, Description: description, Required: true, Properties: properties}
}

func array(name string, required bool, item map[string]option) option {
	return option{Type: "Array", DisplayName: name, Description: "A collection.", Required: required, Properties: item}
}

func reference(name string, required bool, choices []choice) option {
	id := leaf("String", name, "Identifier of the "+name+" in the accounting platform.", true)
	id.Options = choices
	return option{Type: "Object", DisplayName: name, Description: "Reference to the " + name + ".",
		Required: required, Properties: map[string]option{"id": id}}
}

func oneOf(name string, required bool, values ...string) option {
	field := leaf("String", name, "One of the listed values.", required)
	for _, value := range values {
		field.Options = append(field.Options, choice{Value: value, Type: "String", DisplayName: value})
	}
	return field
}

func advised(field option, name, details string) option {
	field.Validation = &advice{
		Warnings:    []remark{{Field: name, Details: details, Ref: "https://example.com/platform-rules"}},
		Information: []remark{},
	}
	return field
}

func ledgerChoices(connection Connection) []choice {
	d := dice(word(connection.ID), word("accounts"))
	names := [...]string{"Sales", "Cost of goods sold", "Office expenses", "Travel", "Suspense"}
	choices := make([]choice, len(names))
	for i, name := range names {
		choices[i] = choice{Value: uuid(d), Type: "String", DisplayName: name}
	}
	return choices
}

func taxChoices() []choice {
	return []choice{
		{Value: "OUTPUT2", Type: "String", DisplayName: "20% on sales"},
		{Value: "ZERORATED", Type: "String", DisplayName: "Zero rated"},
	}
}
