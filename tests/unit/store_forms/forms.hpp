// Every form of store that a program has: each changes memory of `State` or of the heap.
#ifndef TESTS_UNIT_STORE_FORMS_FORMS_HPP
#define TESTS_UNIT_STORE_FORMS_FORMS_HPP

struct State;
State* new_state();

struct Form {
  char const* name;
  void (*prepare)(State&);  // null: nothing to prepare
  void (*run)(State&);
};
extern Form const kForms[];
extern unsigned const kFormCount;

// The variables of forms.cpp.
extern char* globals_begin();
extern unsigned long globals_size();

#endif
