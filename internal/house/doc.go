// Package house keeps the house rules: which package may import which, how SQL and
// interfaces look, where the clock is read, what packages are called. It holds
// nothing but tests, which read the module's own source, and guarantees that every
// rule is shown to bite: each is tried on code that breaks it. A rule that needs an
// exception names it, with the reason, in a table beside the rule.
package house
