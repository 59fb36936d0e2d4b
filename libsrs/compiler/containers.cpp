// Parts of libstdc++ that programs get precompiled, compiled by srs-c++ instead: they take the place of the library's.
// The trees are red-black trees as in Cormen et al., "Introduction to Algorithms", chapter 13.
#include <list>
#include <map>
#include <string>

extern "C" char srs_i_containers_;
char srs_i_containers_ = 0;  // named by the wrapper's link line

template class std::basic_string<char>;
template class std::basic_string<wchar_t>;

namespace std {

namespace {

using Node = _Rb_tree_node_base;

bool is_red(Node const* n) {
  return n != nullptr && n->_M_color == _S_red;
}

// `fresh` takes the place of `old` below old's parent. header._M_parent is the root.
void put_in_place(Node* old, Node* fresh, Node& header) {
  Node* const parent = old->_M_parent;
  if (old == header._M_parent) {
    header._M_parent = fresh;
  } else if (old == parent->_M_left) {
    parent->_M_left = fresh;
  } else {
    parent->_M_right = fresh;
  }
  if (fresh != nullptr) fresh->_M_parent = parent;
}

Node*& child(Node* n, bool left) {
  return left ? n->_M_left : n->_M_right;
}

// n goes down on the side `left`; its child of the other side comes up.
void rotate(Node* n, bool left, Node& header) {
  Node* const up = child(n, !left);
  Node* const moved = child(up, left);
  child(n, !left) = moved;
  if (moved != nullptr) moved->_M_parent = n;
  put_in_place(n, up, header);
  child(up, left) = n;
  n->_M_parent = up;
}

Node* outermost(Node* n, bool left) {
  while (child(n, left) != nullptr) n = child(n, left);
  return n;
}

// The path to `n` (null: a leaf below `parent`) has a black node too few.
void restore_black(Node* n, Node* parent, Node& header) {
  while (n != header._M_parent && !is_red(n)) {
    bool const left = n == parent->_M_left;
    Node* sibling = child(parent, !left);
    if (is_red(sibling)) {
      sibling->_M_color = _S_black;
      parent->_M_color = _S_red;
      rotate(parent, left, header);
      sibling = child(parent, !left);
    }
    if (!is_red(sibling->_M_left) && !is_red(sibling->_M_right)) {
      sibling->_M_color = _S_red;
      n = parent;
      parent = n->_M_parent;
      continue;
    }
    if (!is_red(child(sibling, !left))) {
      child(sibling, left)->_M_color = _S_black;
      sibling->_M_color = _S_red;
      rotate(sibling, !left, header);
      sibling = child(parent, !left);
    }
    sibling->_M_color = parent->_M_color;
    parent->_M_color = _S_black;
    child(sibling, !left)->_M_color = _S_black;
    rotate(parent, left, header);
    break;
  }
  if (n != nullptr) n->_M_color = _S_black;
}

}  // namespace

void _Rb_tree_insert_and_rebalance(bool const insert_left, Node* x, Node* parent, Node& header) throw() {
  x->_M_parent = parent;
  x->_M_left = nullptr;
  x->_M_right = nullptr;
  x->_M_color = _S_red;
  if (parent == &header) {
    header._M_parent = x;
    header._M_left = x;
    header._M_right = x;
  } else {
    child(parent, insert_left) = x;
    if (insert_left && parent == header._M_left) header._M_left = x;
    if (!insert_left && parent == header._M_right) header._M_right = x;
  }
  while (x != header._M_parent && is_red(x->_M_parent)) {
    Node* const above = x->_M_parent->_M_parent;
    bool const left = x->_M_parent == above->_M_left;
    Node* const uncle = child(above, !left);
    if (is_red(uncle)) {
      x->_M_parent->_M_color = _S_black;
      uncle->_M_color = _S_black;
      above->_M_color = _S_red;
      x = above;
      continue;
    }
    if (x == child(x->_M_parent, !left)) {
      x = x->_M_parent;
      rotate(x, left, header);
    }
    x->_M_parent->_M_color = _S_black;
    above->_M_color = _S_red;
    rotate(above, !left, header);
  }
  header._M_parent->_M_color = _S_black;
}

Node* _Rb_tree_rebalance_for_erase(Node* const z, Node& header) throw() {
  bool removed_black = z->_M_color == _S_black;
  Node* below = nullptr;   // what comes up
  Node* parent = nullptr;  // its parent then
  if (z->_M_left != nullptr && z->_M_right != nullptr) {
    Node* const next = outermost(z->_M_right, true);
    removed_black = next->_M_color == _S_black;
    below = next->_M_right;
    parent = next;
    if (next->_M_parent != z) {
      parent = next->_M_parent;
      put_in_place(next, below, header);
      next->_M_right = z->_M_right;
      next->_M_right->_M_parent = next;
    }
    put_in_place(z, next, header);
    next->_M_left = z->_M_left;
    next->_M_left->_M_parent = next;
    next->_M_color = z->_M_color;
  } else {
    below = z->_M_left != nullptr ? z->_M_left : z->_M_right;
    parent = z->_M_parent;
    put_in_place(z, below, header);
    if (z == header._M_left) header._M_left = below == nullptr ? parent : outermost(below, true);
    if (z == header._M_right) header._M_right = below == nullptr ? parent : outermost(below, false);
  }
  if (removed_black && header._M_parent != nullptr) restore_black(below, parent, header);
  return z;
}

namespace __detail {

void _List_node_base::_M_hook(_List_node_base* const position) noexcept {
  _M_next = position;
  _M_prev = position->_M_prev;
  position->_M_prev->_M_next = this;
  position->_M_prev = this;
}

void _List_node_base::_M_unhook() noexcept {
  _M_prev->_M_next = _M_next;
  _M_next->_M_prev = _M_prev;
}

void _List_node_base::_M_transfer(_List_node_base* const first, _List_node_base* const last) noexcept {
  if (this == last) return;
  _List_node_base* const before_last = last->_M_prev;
  _List_node_base* const before_first = first->_M_prev;
  _List_node_base* const before_this = _M_prev;
  before_first->_M_next = last;
  last->_M_prev = before_first;
  before_this->_M_next = first;
  first->_M_prev = before_this;
  before_last->_M_next = this;
  _M_prev = before_last;
}

void _List_node_base::_M_reverse() noexcept {
  _List_node_base* n = this;
  do {
    _List_node_base* const next = n->_M_next;
    n->_M_next = n->_M_prev;
    n->_M_prev = next;
    n = next;
  } while (n != this);
}

void _List_node_base::swap(_List_node_base& a, _List_node_base& b) noexcept {
  bool const a_empty = a._M_next == &a;
  bool const b_empty = b._M_next == &b;
  _List_node_base const old_a = a;
  _List_node_base const old_b = b;
  if (b_empty) {
    a._M_next = a._M_prev = &a;
  } else {
    a = old_b;
    a._M_next->_M_prev = a._M_prev->_M_next = &a;
  }
  if (a_empty) {
    b._M_next = b._M_prev = &b;
  } else {
    b = old_a;
    b._M_next->_M_prev = b._M_prev->_M_next = &b;
  }
}

}  // namespace __detail
}  // namespace std
