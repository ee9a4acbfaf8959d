/** Accesses through a device TLB make no garbage beside what memory itself makes: hits, and misses that ask the unit. */
import test, { type ExecutionContext } from 'ava';
import { NO_PASID } from '@remora/core';
import { DeviceTlb, DeviceTlbChannel } from '@remora/pci';
import { owner } from '@remora/testing';
import { AT, AtsGuest, PAGE, PASID, SPACES } from '../ats/ats-guest.js';
import { bytesEach } from './garbage.js';

const PAGES = 32;

/** The guest's engine, with another device TLB in place of its own; behind it are `PAGES` pages. */
function accesses(t: ExecutionContext) {
  const at = owner(t)(new AtsGuest());
  for (const space of SPACES) for (let page = 0; page < PAGES; page++) at.page(space, AT + page);
  const fn = at.vm.functions('engine')[0]!;
  const tlb = new DeviceTlb(fn, { entries: 256 });
  return { memory: at.vm.memory, tlb, channel: new DeviceTlbChannel(fn, tlb, () => t.fail()) };
}

for (const what of ['hits', 'misses'] as const) {
  test(`accesses through a device TLB make no garbage of their own: ${what}`, t => {
    const { memory, tlb, channel } = accesses(t);
    const done = (): void => undefined;
    const word = new Uint8Array(4);
    const hi = Math.floor((AT * PAGE) / 2 ** 32);
    const lo = (AT * PAGE) % 2 ** 32;
    let refused = 0;
    const plain = bytesEach(() => {
      refused |= memory.read(0, 0x1000, word) | memory.write(0, 0x1000, word);
    });
    const translated = bytesEach(index => {
      const pasid = index & 1 ? PASID : NO_PASID;
      const at = (lo + ((index >> 1) % PAGES) * PAGE) | 0;
      if (what === 'misses') tlb.invalidate(pasid, false, hi, at, 12, done);
      refused |= channel.read(hi, at, word, pasid) | channel.write(hi, at, word, pasid);
    });
    t.is(refused, 0);
    t.true(translated < plain + 1, `${translated} bytes for each, of which memory makes ${plain}`);
  });
}
