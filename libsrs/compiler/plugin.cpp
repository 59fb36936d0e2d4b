// A plugin of GCC's: each store that a function makes to memory beyond its own frame is logged before it is made.
//
// Two passes. Early, while atomic operations are still calls: they become calls of libsrs's (atomics.cpp). Late, when
// the optimiser is done: an asm statement goes before each store (stores.hpp), and calls of C library functions that
// store become calls of ours (library.cpp). docs/compiler-wrappers.md says why it is done in this way.
#include <string>

#include "libsrs/compiler/stores.hpp"

// GCC's headers want this order.
// clang-format off
#include <gcc-plugin.h>
#include <plugin-version.h>
#include <tree.h>
#include <gimple.h>
#include <tree-pass.h>
#include <context.h>
#include <function.h>
#include <basic-block.h>
#include <ssa.h>
#include <tree-ssa-alias.h>
#include <fold-const.h>
#include <stor-layout.h>
#include <stringpool.h>
#include <gimple-iterator.h>
#include <gimplify.h>
#include <gimplify-me.h>
#include <tree-cfg.h>
#include <builtins.h>
#include <calls.h>
#include <internal-fn.h>
#include <diagnostic-core.h>
// clang-format on

int plugin_is_GPL_compatible;

namespace {

using srs::compiler::Store;

// Ours, for the C library's functions of these names.
char const* const kReplaced[] = {
    "malloc",   "calloc",      "realloc",  "free",     "reallocarray", "aligned_alloc", "posix_memalign",
    "memalign", "strdup",      "strndup",  "strcpy",   "stpcpy",       "strncpy",       "stpncpy",
    "strcat",   "strncat",     "sprintf",  "snprintf", "vsprintf",     "vsnprintf",     "qsort",
    "qsort_r",  "fread",       "fgets",    "asprintf", "vasprintf",    "clock_gettime", "gettimeofday",
    "time",     "localtime_r", "gmtime_r",
};
// They store `size` bytes at their first argument; the size is the argument with this number.
struct Filler {
  char const* name;
  unsigned size_argument;
};
Filler const kFillers[] = {{"memcpy", 2},        {"memmove", 2},        {"mempcpy", 2},      {"memset", 2},
                           {"bzero", 1},         {"explicit_bzero", 1}, {"strftime", 1},     {"__memcpy_chk", 2},
                           {"__memmove_chk", 2}, {"__mempcpy_chk", 2},  {"__memset_chk", 2}, {"swab", 2}};

// Precompiled members of libstdc++'s that store to their object, of this many bytes: std::unordered_map's growth.
struct Member {
  char const* name;
  unsigned long size;
};
Member const kMembers[] = {{"_ZNKSt8__detail20_Prime_rehash_policy14_M_need_rehashEmmm", 16},
                           {"_ZNKSt8__detail20_Prime_rehash_policy11_M_next_bktEm", 16}};

std::string name_of(tree decl) {
  // An asm label wins: it is what the linker sees. A leading * says that it is one.
  tree const id = DECL_ASSEMBLER_NAME_SET_P(decl) ? DECL_ASSEMBLER_NAME(decl) : DECL_NAME(decl);
  if (id == NULL_TREE) return "";
  char const* name = IDENTIFIER_POINTER(id);
  return *name == '*' ? name + 1 : name;
}

// A function of the program's own file is no function of the C library, whatever its name.
bool of_a_library(tree decl) {
  return !DECL_INITIAL(decl) && (TREE_PUBLIC(decl) || DECL_EXTERNAL(decl));
}

void replace_function(gcall* call, tree old, std::string const& name) {
  tree const fresh = build_fn_decl(name.c_str(), TREE_TYPE(old));
  TREE_NOTHROW(fresh) = TREE_NOTHROW(old);
  gimple_call_set_fndecl(call, fresh);
  gimple_set_modified(call, true);
  update_stmt(call);
}

// Whether what this names can only lie in the frame of the function itself.
bool in_own_frame(tree ref) {
  tree const base = get_base_address(ref);
  if (base == NULL_TREE) return false;
  if (TREE_CODE(base) == RESULT_DECL) return !aggregate_value_p(base, current_function_decl);
  if (TREE_CODE(base) == SSA_NAME) return true;
  if (DECL_P(base)) return !is_global_var(base);
  if (TREE_CODE(base) == MEM_REF && TREE_CODE(TREE_OPERAND(base, 0)) == SSA_NAME) {
    return optimize > 0 && !ptr_deref_may_alias_global_p(TREE_OPERAND(base, 0), false);
  }
  return false;
}

bool pointer_to_own_frame(tree pointer) {
  if (TREE_CODE(pointer) == ADDR_EXPR) return in_own_frame(TREE_OPERAND(pointer, 0));
  return TREE_CODE(pointer) == SSA_NAME && optimize > 0 && POINTER_TYPE_P(TREE_TYPE(pointer)) &&
         !ptr_deref_may_alias_global_p(pointer, false);
}

tree asm_item(char const* constraint, tree value) {
  tree const text = build_string(strlen(constraint) + 1, constraint);
  return build_tree_list(build_tree_list(NULL_TREE, text), value);
}
tree asm_clobber(char const* name) {
  return build_tree_list(NULL_TREE, build_string(strlen(name) + 1, name));
}

// Puts the asm before the statement at gsi. `address`, and `size` where it is not null, are values.
void insert_asm(gimple_stmt_iterator* gsi, std::string const& text, tree address, tree size) {
  vec<tree, va_gc>* inputs = nullptr;
  vec<tree, va_gc>* outputs = nullptr;
  vec<tree, va_gc>* clobbers = nullptr;
  vec_safe_push(inputs, asm_item("D", address));
  tree spoilt = NULL_TREE;
  if (size != NULL_TREE) {
    // An input register cannot be spoilt: it is an output too, which nobody reads.
    spoilt = make_ssa_name(size_type_node);
    vec_safe_push(outputs, asm_item("=a", spoilt));
    vec_safe_push(inputs, asm_item("0", size));
  } else {
    vec_safe_push(clobbers, asm_clobber("rax"));
  }
  for (char const* name : {"rcx", "rdx", "cc", "memory"}) vec_safe_push(clobbers, asm_clobber(name));
  gasm* const statement = gimple_build_asm_vec(text.c_str(), inputs, outputs, clobbers, nullptr);
  gimple_asm_set_volatile(statement, true);
  gimple_set_location(statement, gimple_location(gsi_stmt(*gsi)));
  if (spoilt != NULL_TREE) SSA_NAME_DEF_STMT(spoilt) = statement;
  gsi_insert_before(gsi, statement, GSI_SAME_STMT);
}

tree as_value(gimple_stmt_iterator* gsi, tree expression) {
  return force_gimple_operand_gsi(gsi, expression, true, NULL_TREE, true, GSI_SAME_STMT);
}

// Logs `size` bytes at `address`, of which the alignment is known.
void log_bytes(gimple_stmt_iterator* gsi, tree address, Store store) {
  tree const at = as_value(gsi, address);
  if (store.size <= srs::compiler::kMostInLine) {
    insert_asm(gsi, srs::compiler::check_text(store), at, NULL_TREE);
  } else {
    insert_asm(gsi, "call srs_log_", at, build_int_cst(size_type_node, store.size));
  }
}

void log_range(gimple_stmt_iterator* gsi, tree address, tree size) {
  if (pointer_to_own_frame(address)) return;
  if (TREE_CODE(size) == INTEGER_CST) {
    if (integer_zerop(size) || !tree_fits_uhwi_p(size)) return;
    unsigned int align = 8;
    unsigned HOST_WIDE_INT at = 0;
    get_pointer_alignment_1(address, &align, &at);
    log_bytes(gsi, address, {tree_to_uhwi(size), align / 8, at / 8});
    return;
  }
  tree const n = as_value(gsi, fold_convert(size_type_node, size));
  insert_asm(gsi, "call srs_log_", as_value(gsi, address), n);
}

void log_store(gimple_stmt_iterator* gsi, tree lhs) {
  if (TREE_CODE(lhs) == WITH_SIZE_EXPR) {
    tree const size = TREE_OPERAND(lhs, 1);
    lhs = TREE_OPERAND(lhs, 0);
    if (!in_own_frame(lhs)) log_range(gsi, as_value(gsi, build_fold_addr_expr(unshare_expr(lhs))), size);
    return;
  }
  if (in_own_frame(lhs)) return;
  while (TREE_CODE(lhs) == VIEW_CONVERT_EXPR) lhs = TREE_OPERAND(lhs, 0);
  if (TREE_CODE(lhs) == BIT_FIELD_REF) lhs = TREE_OPERAND(lhs, 0);
  if (TREE_CODE(lhs) == COMPONENT_REF && DECL_BIT_FIELD_TYPE(TREE_OPERAND(lhs, 1))) {
    // The bytes that the processor will store: the field's representative.
    tree const field = DECL_BIT_FIELD_REPRESENTATIVE(TREE_OPERAND(lhs, 1));
    lhs = field != NULL_TREE ? build3(COMPONENT_REF, TREE_TYPE(field), TREE_OPERAND(lhs, 0), field, NULL_TREE)
                             : TREE_OPERAND(lhs, 0);
  }
  tree const size = TYPE_SIZE_UNIT(TREE_TYPE(lhs));
  if (size == NULL_TREE || integer_zerop(size)) return;
  unsigned int align = 8;
  unsigned HOST_WIDE_INT at = 0;
  get_object_alignment_1(lhs, &align, &at);
  tree const address = build_fold_addr_expr(unshare_expr(lhs));
  if (!tree_fits_uhwi_p(size)) {
    log_range(gsi, as_value(gsi, address), size);
    return;
  }
  log_bytes(gsi, address, {tree_to_uhwi(size), align / 8, at / 8});
}

void log_call(gimple_stmt_iterator* gsi, gcall* call) {
  tree const lhs = gimple_call_lhs(call);
  if (lhs != NULL_TREE && TREE_CODE(lhs) != SSA_NAME && !in_own_frame(lhs)) {
    if (gimple_call_return_slot_opt_p(call) || stmt_ends_bb_p(call)) {
      log_store(gsi, lhs);  // the callee may build it in place: afterwards would be too late
    } else {                // a store of its own, after the call: what the callee does may end the scope's owner
      tree const result = create_tmp_var(TREE_TYPE(lhs));
      gimple_call_set_lhs(call, result);
      update_stmt(call);
      gsi_insert_after(gsi, gimple_build_assign(lhs, result), GSI_SAME_STMT);
    }
  }
  if (gimple_call_internal_p(call)) {
    switch (gimple_call_internal_fn(call)) {
      case IFN_MASK_STORE:  // (address, align, mask, value): whole, as no byte of it is another thread's
      case IFN_LEN_STORE:
        log_range(gsi, gimple_call_arg(call, 0),
                  TYPE_SIZE_UNIT(TREE_TYPE(gimple_call_arg(call, gimple_call_num_args(call) - 1))));
        break;
      case IFN_SCATTER_STORE:
      case IFN_MASK_SCATTER_STORE:
        warning_at(gimple_location(call), 0, "srs: a scattered store is not logged");
        break;
      default:
        break;
    }
    return;
  }
  tree const decl = gimple_call_fndecl(call);
  if (decl == NULL_TREE) return;
  bool const builtin = fndecl_built_in_p(decl, BUILT_IN_NORMAL);
  if (!builtin && !of_a_library(decl)) return;
  std::string name = name_of(decl);
  if (name.compare(0, 10, "__builtin_") == 0) name.erase(0, 10);
  for (Filler const& filler : kFillers) {
    if (name == filler.name && gimple_call_num_args(call) > filler.size_argument) {
      log_range(gsi, gimple_call_arg(call, 0), gimple_call_arg(call, filler.size_argument));
      return;
    }
  }
  for (Member const& member : kMembers) {
    if (name == member.name) log_range(gsi, gimple_call_arg(call, 0), build_int_cst(size_type_node, member.size));
  }
  for (char const* replaced : kReplaced) {
    if (name == replaced) {
      replace_function(call, decl, "srs_i_" + name);
      return;
    }
  }
}

void log_asm(gimple_stmt_iterator* gsi, gasm* statement) {
  for (unsigned i = 0; i < gimple_asm_noutputs(statement); ++i) {
    tree const value = TREE_VALUE(gimple_asm_output_op(statement, i));
    if (TREE_CODE(value) != SSA_NAME && !is_gimple_reg(value)) log_store(gsi, value);
  }
}

pass_data const kLate = {GIMPLE_PASS, "srs_stores",   OPTGROUP_NONE, TV_NONE, PROP_cfg | PROP_ssa, 0, 0,
                         0,           TODO_update_ssa};

class LatePass : public gimple_opt_pass {
 public:
  explicit LatePass(gcc::context* context) : gimple_opt_pass(kLate, context) {}
  unsigned int execute(function* fun) override {
    basic_block block;
    FOR_EACH_BB_FN(block, fun) {
      for (gimple_stmt_iterator gsi = gsi_start_bb(block); !gsi_end_p(gsi); gsi_next(&gsi)) {
        gimple* const statement = gsi_stmt(gsi);
        if (gimple_clobber_p(statement)) continue;
        if (gcall* const call = dyn_cast<gcall*>(statement)) {
          log_call(&gsi, call);
        } else if (gasm* const text = dyn_cast<gasm*>(statement)) {
          log_asm(&gsi, text);
        } else if (is_gimple_assign(statement) && gimple_store_p(statement)) {
          log_store(&gsi, gimple_assign_lhs(statement));
        }
      }
    }
    return 0;
  }
};

// __atomic_fetch_add_8 and its like; loads are plain.
bool atomic_that_stores(std::string const& name) {
  if (name == "__atomic_test_and_set" || name == "__atomic_clear") return true;
  if (name.compare(0, 9, "__atomic_") != 0 && name.compare(0, 7, "__sync_") != 0) return false;
  if (name.size() < 2 || name[name.size() - 2] != '_' || name.compare(0, 14, "__atomic_load_") == 0) return false;
  char const last = name.back();
  return last == '1' || last == '2' || last == '4' || last == '8';
}

pass_data const kEarly = {GIMPLE_PASS, "srs_atomics",  OPTGROUP_NONE, TV_NONE, PROP_cfg | PROP_ssa, 0, 0,
                          0,           TODO_update_ssa};

class EarlyPass : public gimple_opt_pass {
 public:
  explicit EarlyPass(gcc::context* context) : gimple_opt_pass(kEarly, context) {}
  unsigned int execute(function* fun) override {
    basic_block block;
    FOR_EACH_BB_FN(block, fun) {
      for (gimple_stmt_iterator gsi = gsi_start_bb(block); !gsi_end_p(gsi); gsi_next(&gsi)) {
        gcall* const call = dyn_cast<gcall*>(gsi_stmt(gsi));
        tree const decl = call != nullptr ? gimple_call_fndecl(call) : NULL_TREE;
        if (decl == NULL_TREE || DECL_NAME(decl) == NULL_TREE || !fndecl_built_in_p(decl, BUILT_IN_NORMAL)) continue;
        std::string name = IDENTIFIER_POINTER(DECL_NAME(decl));
        if (atomic_that_stores(name)) replace_function(call, decl, "srs_i" + name);
      }
    }
    return 0;
  }
};

void register_after(char const* plugin, opt_pass* pass, char const* reference) {
  register_pass_info info = {pass, reference, 1, PASS_POS_INSERT_AFTER};
  register_callback(plugin, PLUGIN_PASS_MANAGER_SETUP, nullptr, &info);
}

}  // namespace

int plugin_init(plugin_name_args* plugin, plugin_gcc_version* version) {
  if (!plugin_default_version_check(version, &gcc_version)) {
    error("srs: this plugin was built for GCC %s", gcc_version.basever);
    return 1;
  }
  register_after(plugin->base_name, new EarlyPass(g), "ssa");
  register_after(plugin->base_name, new LatePass(g), "nrv");
  return 0;
}
