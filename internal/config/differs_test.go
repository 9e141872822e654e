package config_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pushwatch/pushwatch/internal/config"
)

func TestEveryFieldThatDiffersIsToldByItsKey(t *testing.T) {
	table := config.Table()
	assert.Empty(t, config.Config{}.Differs(config.Config{}))
	var visit func(at []int, typ reflect.Type)
	told := 0
	visit = func(at []int, typ reflect.Type) {
		for i := range typ.NumField() {
			path := append(append([]int{}, at...), i)
			if typ.Field(i).Type.Kind() == reflect.Struct {
				visit(path, typ.Field(i).Type)
				continue
			}
			var changed config.Config
			change(reflect.ValueOf(&changed).Elem().FieldByIndex(path))
			keys := changed.Differs(config.Config{})
			if assert.Len(t, keys, 1, typ.Field(i).Name) {
				name := strings.NewReplacer("data_dir", "--data-dir", "config", "--config").Replace(keys[0])
				assert.Contains(t, table, "`"+name+"`")
				told++
			}
		}
	}
	visit(nil, reflect.TypeFor[config.Config]())
	assert.Greater(t, told, 25)
}

func change(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(0.7)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	}
}
