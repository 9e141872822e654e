package event

// Match returns the filter of the events of a company, of a data type and with an
// event name (see [Name]), below prefix; nil stands for every one of its kind.
func Match(prefix string, companyID, dataType, name *string) string {
	token := func(value *string, escape func(string) string) string {
		if value == nil {
			return "*"
		}
		return escape(*value)
	}
	named := func(name string) string { return name }
	return prefix + "." + token(companyID, Escape) + "." + token(dataType, dataTypeToken) + ".*." + token(name, named)
}
