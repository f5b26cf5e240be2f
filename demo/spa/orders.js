// The orders, their picture, their download and their addresses.

import { $, element } from './dom.js';

/** Shows the orders. `orders` null means that they could not be loaded. */
export function showOrders(orders) {
  const rows = orders === null
    ? [element('li', { class: 'empty muted' }, 'The orders could not be loaded.')]
    : orders.map(orderRow);
  if (orders?.length === 0) rows.push(element('li', { class: 'empty muted' }, 'No orders yet.'));
  $('order-rows').replaceChildren(...rows);
  $('order-rows').removeAttribute('aria-busy');
  markOrder();
}

/** An image passes by cookie alone, without the client's retry: so after `wake` it is asked for once more. */
export function showPhoto(wake) {
  const photo = $('photo');
  photo.onerror = async () => {
    photo.onerror = null;
    try {
      await wake();
      photo.src = '/api/photo.svg?again';
    } catch {
      // The list of orders has failed in the same way, and says so.
    }
  };
  photo.src = '/api/photo.svg';
}

export function followOrder(event) {
  const link = event.target.closest('a');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, '', link.href);
  markOrder();
}

export function markOrder() {
  for (const link of $('order-rows').querySelectorAll('a')) {
    if (link.pathname === location.pathname) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

function orderRow({ id, item, date, state, amount }) {
  const link = element('a', { href: `/orders/${encodeURIComponent(id)}#orders` },
    element('span', { class: 'item' }, item),
    element('span', { class: 'amount' }, `€ ${amount}`),
    element('span', { class: 'small muted' }, `${id} · ${date}`),
    element('span', { class: `small pill ${state === 'delivered' ? 'done' : ''}` }, state));
  return element('li', {}, link);
}
