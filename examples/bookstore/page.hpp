// The page at `/`: look at the books and buy. One file, nothing fetched from elsewhere.
#pragma once

#include <string_view>

namespace bookstore {

inline constexpr std::string_view kPage = R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Bookstore</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
  h1 { font-size: 1.4rem; }
  table { width: 100%; border-collapse: collapse; }
  th, td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid #ddd; }
  th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; }
  input { width: 4.5rem; font: inherit; }
  button { font: inherit; padding: .1rem .8rem; }
  #said { min-height: 1.5rem; margin: 1rem 0; }
  .bad { color: #a30000; }
</style>
</head>
<body>
<h1>Bookstore</h1>
<p><label>You are user <input id="user" type="number" min="0" value="1"></label>
   <label>copies <input id="copies" type="number" min="1" value="1"></label></p>
<p id="said" role="status"></p>
<table>
  <thead><tr><th>Title</th><th class="n">Price</th><th class="n">In stock</th><th class="n">Sold</th><th></th></tr></thead>
  <tbody id="books"></tbody>
</table>
<h2>Your orders</h2>
<table>
  <thead><tr><th class="n">Order</th><th>Title</th><th class="n">Copies</th><th class="n">Total</th></tr></thead>
  <tbody id="orders"></tbody>
</table>
<script>
const $ = id => document.getElementById(id);
const money = cents => (cents / 100).toFixed(2);
let titles = [];
function row(cells, button) {
  const tr = document.createElement('tr');
  for (const [text, number] of cells) {
    const td = tr.insertCell();
    td.textContent = text;
    if (number) td.className = 'n';
  }
  if (button) tr.insertCell().append(button);
  return tr;
}
async function refresh() {
  const { books } = await (await fetch('/books')).json();
  titles = books.map(b => b.title);
  $('books').replaceChildren(...books.map(b => {
    const button = document.createElement('button');
    button.textContent = 'Buy';
    button.disabled = b.stock < 1;
    button.onclick = () => buy(b);
    return row([[b.title], [money(b.price), 1], [b.stock, 1], [b.sold, 1]], button);
  }));
  const { orders } = await (await fetch('/orders?user=' + Number($('user').value))).json();
  $('orders').replaceChildren(...orders.map(o =>
    row([[o.order, 1], [titles[o.book]], [o.copies, 1], [money(o.total), 1]])));
}
function say(text, bad) {
  $('said').textContent = text;
  $('said').className = bad ? 'bad' : '';
}
async function buy(book) {
  const user = Number($('user').value);
  const request = 'page-' + user + '-' + Date.now();
  try {
    const answer = await fetch('/buy', { method: 'POST', body: JSON.stringify(
      { request, user, book: book.book, copies: Number($('copies').value) }) });
    const said = await answer.json();
    if (answer.ok) say('Order ' + said.order + ': ' + said.copies + ' × ' + book.title + ', ' + money(said.total));
    else say(said.error + (said.committed ? ' (but the order was committed)' : ' (nothing was ordered)'), true);
  } catch (error) { say('The server did not answer: ' + error.message, true); }
  refresh();
}
$('user').onchange = refresh;
refresh().catch(error => say('The server did not answer: ' + error.message, true));
</script>
</body>
</html>
)html";

}  // namespace bookstore
