package main

import (
	"time"

	"github.com/pushwatch/pushwatch/store"
)

// asideJSON is what was set aside as programs read it: null is what is unknown, or
// what its kind does not have.
type asideJSON struct {
	ID        store.AsideID   `json:"id"`
	Kind      store.AsideKind `json:"kind"`
	CompanyID string          `json:"companyId"`
	Company   *string         `json:"companyName"`
	Key       *string         `json:"pushOperationKey"`
	Class     string          `json:"class"`
	Detail    string          `json:"detail"`
	FirstAt   time.Time       `json:"firstAt"`
	LastAt    time.Time       `json:"lastAt"`
	Times     int64           `json:"times"`
	RetriedAt *time.Time      `json:"retriedAt"`
	EventID   *string         `json:"eventId"`
	Version   *int64          `json:"version"`
	Subject   *string         `json:"subject"`
	Behind    *int64          `json:"behind"`
	Size      *int64          `json:"size"`
	Body      *string         `json:"body"`
	BodyHash  *string         `json:"bodyHash"`
}

func asideDocument(a store.Aside) asideJSON {
	d := asideJSON{ID: a.ID, Kind: a.Kind, CompanyID: a.CompanyID, Company: orNull(a.Company), Key: orNull(a.Key), Class: a.Class,
		Detail: a.Detail, FirstAt: a.FirstAt, LastAt: a.LastAt, Times: a.Times, RetriedAt: a.RetriedAt, EventID: orNull(a.EventID),
		Version: orNull(a.Version), Subject: orNull(a.Subject), Size: orNull(a.Size), Body: orNull(a.Body), BodyHash: orNull(a.BodyHash)}
	if a.Kind == store.AsideEvent {
		d.Behind = &a.Behind // 0 is known
	}
	return d
}

func asideDocuments(all []store.Aside) []asideJSON {
	documents := make([]asideJSON, len(all))
	for i, a := range all {
		documents[i] = asideDocument(a)
	}
	return documents
}

// orNull returns nil for the value that stands for none.
func orNull[T comparable](value T) *T {
	var none T
	if value == none {
		return nil
	}
	return &value
}
