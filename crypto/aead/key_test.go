// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"fmt"
	"reflect"
	"testing"
)

// TestWipeReachesRoundKeys looks at the library's own objects after Wipe: block
// and GCM each hold the round keys.
func TestWipeReachesRoundKeys(t *testing.T) {
	k := newKey(t, NewStd(), 1)
	objects := map[string]reflect.Value{
		"block": reflect.ValueOf(k.block).Elem(),
		"gcm":   reflect.ValueOf(k.gcm).Elem(),
	}
	for name, v := range objects {
		if v.IsZero() || v.Type().Size() < 240 {
			t.Fatalf("%s is a %s of %d bytes: that cannot hold round keys", name, v.Type(), v.Type().Size())
		}
		if p := pointerIn(v.Type()); p != "" {
			t.Fatalf("%s refers to memory that Wipe does not reach: %s", name, p)
		}
	}
	k.Wipe()
	for name, v := range objects {
		if !v.IsZero() {
			t.Errorf("%s still holds round keys", name)
		}
	}
	if *k != (Key{}) {
		t.Error("key still refers to its objects or holds its IV")
	}
	k.Wipe() // twice does no harm
	new(Key).Wipe()
}

// pointerIn names the first part of a type that refers to other memory.
func pointerIn(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if p := pointerIn(t.Field(i).Type); p != "" {
				return t.Field(i).Name + "." + p
			}
		}
	case reflect.Array:
		return pointerIn(t.Elem())
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.UnsafePointer, reflect.String, reflect.Chan, reflect.Func:
		return t.String()
	}
	return ""
}

func TestKeyDoesNotPrint(t *testing.T) {
	k := newKey(t, NewStd(), 1)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, arg := range []any{k, Op{Key: k}, &Op{Key: k}} {
			out := fmt.Sprintf(verb, arg)
			if arg == any(k) && out != redacted {
				t.Errorf("%s prints %.60s", verb, out)
			}
			if len(out) > 300 {
				t.Errorf("%s of %T prints %d characters: %.80s", verb, arg, len(out), out)
			}
		}
	}
	if k.String() != redacted || k.GoString() != redacted {
		t.Error("String or GoString")
	}
}
