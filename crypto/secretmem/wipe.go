// SPDX-License-Identifier: Apache-2.0

package secretmem

import (
	"reflect"
	"unsafe"
)

// Wipe overwrites everything that v refers to through pointers, slices and interfaces, unexported fields included. The library gives no other way to erase a cipher or a hash with a key in it. It is
// for values that own what they refer to, such as those of crypto/hmac, crypto/aes and crypto/cipher, and for nothing that
// shares a table with others. What it has wiped is not to be used again; nil does no harm.
func Wipe(v any) {
	clearRegisters() // what was worked with is still there, and a signal would store it
	if v != nil {
		descend(reflect.ValueOf(v), make(map[unsafe.Pointer]bool))
	}
}

// wipe sets an addressable value to zero after what it refers to.
func wipe(v reflect.Value, seen map[unsafe.Pointer]bool) {
	descend(v, seen)
	// Through a value of its own: one that came through an unexported field cannot be set.
	reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem().SetZero()
}

func descend(v reflect.Value, seen map[unsafe.Pointer]bool) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			descend(v.Field(i), seen)
		}
	case reflect.Array:
		if holdsReferences(v.Type().Elem()) {
			for i := range v.Len() {
				descend(v.Index(i), seen)
			}
		}
	case reflect.Slice:
		// What lies behind the length is the value's, too.
		if v.Cap() > 0 && first(v.UnsafePointer(), seen) {
			wipe(reflect.NewAt(reflect.ArrayOf(v.Cap(), v.Type().Elem()), v.UnsafePointer()).Elem(), seen)
		}
	case reflect.Pointer:
		if !v.IsNil() && first(v.UnsafePointer(), seen) {
			wipe(v.Elem(), seen)
		}
	case reflect.Interface:
		if !v.IsNil() {
			descend(v.Elem(), seen)
		}
	}
}

// holdsReferences says that values of a type can refer to others.
func holdsReferences(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Array, reflect.Slice, reflect.Pointer, reflect.Interface:
		return true
	}
	return false
}

func first(p unsafe.Pointer, seen map[unsafe.Pointer]bool) bool {
	if seen[p] {
		return false
	}
	seen[p] = true
	return true
}
