// Package migrations holds the numbered SQL of pushwatch's schema, embedded in
// the binary. It guarantees that a program carries exactly the migrations it was
// built with. They are additive: the program before and the program after a
// migration both run on the schema that it leaves. One that has landed is never
// edited.
package migrations

import "embed"

// FS holds the migrations, one file each, named NNNNN_what.sql.
//
//go:embed *.sql
var FS embed.FS
