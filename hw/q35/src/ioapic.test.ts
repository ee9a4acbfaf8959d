import test from 'ava';
import { AddressSpace, Inspector, Ledger, MemTx, Ram, Region, VirtualClock } from '@remora/core';
import { pciSetupIommu } from '@remora/pci';
import { Q35 } from './board.js';
import { q35Kind } from './plugin.js';
import { IoApic } from './ioapic.js';
import {
  IOAPIC_BASE,
  IOAPIC_PINS,
  IOAPIC_REQUESTER,
  IoApicOffset,
  RedirectionEntry,
  RemappableRedirectionEntry,
} from './ioapic-spec.js';

const EDGE = 0x10041;
const UNMASKED_EDGE = { vector: 0x41, destination: 3 };
const LEVEL = { ...UNMASKED_EDGE, trigger: 1 };
const REMOTE_IRR = 1 << 14;

/** An I/O APIC in an address space of its own, as a processor reaches it. */
function bench() {
  const messages: string[] = [];
  const ioapic = new IoApic((hi, lo, data) => messages.push(`${hi} ${hex(lo)} ${hex(data)}`));
  const root = Region.container('system', 0x10_0000);
  root.add(0, ioapic.region);
  const space = new AddressSpace('system', root);
  const bytes = new Uint8Array(4);
  const view = new DataView(bytes.buffer);
  const set = (offset: number, value: number): void => {
    view.setUint32(0, value, true);
    space.write(0, offset, bytes);
  };
  const get = (offset: number): number => {
    space.read(0, offset, bytes);
    return view.getUint32(0, true);
  };
  const read = (register: number): number => (set(IoApicOffset.SELECT, register), get(IoApicOffset.DATA));
  const write = (register: number, value: number): void => {
    set(IoApicOffset.SELECT, register);
    set(IoApicOffset.DATA, value);
  };
  /** As drivers do it: the half with the mask bit last. */
  const route = (pin: number, words: Int32Array): void => {
    write(0x11 + 2 * pin, words[1]!);
    write(0x10 + 2 * pin, words[0]!);
  };
  const taken = (): string[] => messages.splice(0);
  return { ioapic, space, set, get, read, write, route, taken };
}

function hex(value: number): string {
  return (value >>> 0).toString(16);
}

test('registers: identity, version with 24 entries, entries masked; others read 0', t => {
  const { read, write, get, set } = bench();
  t.is(read(1), 0x0017_0020);
  write(1, 0);
  t.is(read(1), 0x0017_0020);
  write(0, 0xffff_ffff);
  t.is(read(0), 0x0f00_0000);
  t.is(read(2), 0x0f00_0000);
  for (let pin = 0; pin < IOAPIC_PINS; pin++) t.deepEqual([read(0x10 + 2 * pin), read(0x11 + 2 * pin)], [0x10000, 0]);
  for (const register of [3, 0xf, 0x40, 0xff]) {
    write(register, 0xffff_ffff);
    t.is(read(register), 0);
  }
  set(IoApicOffset.SELECT, 0x1234_5601);
  t.is(get(IoApicOffset.SELECT), 1);
  t.is(get(0x20), 0);
});

test('accesses of other sizes than 4 are refused', t => {
  const { space } = bench();
  t.not(space.write(0, IoApicOffset.SELECT, Uint8Array.of(1)), MemTx.OK);
  t.not(space.read(0, IoApicOffset.DATA, new Uint8Array(2)), MemTx.OK);
});

test('of an entry, the status bits and the reserved ones are not writable', t => {
  const { read, write } = bench();
  write(0x10, 0xffff_ffff);
  write(0x11, 0xffff_ffff);
  t.is(read(0x10), 0x0001_afff);
  t.is(read(0x11), 0xffff_0000);
});

test('an edge sends a message once; nothing while it stays, nothing when it falls', t => {
  const { ioapic, route, taken } = bench();
  route(5, RedirectionEntry.encode(UNMASKED_EDGE));
  ioapic.set(5, true);
  t.deepEqual(taken(), ['0 fee03000 41']);
  ioapic.set(5, true);
  ioapic.set(5, false);
  t.deepEqual(taken(), []);
  ioapic.set(5, true);
  t.deepEqual(taken(), ['0 fee03000 41']);
  t.throws(() => ioapic.set(24, true), { instanceOf: RangeError });
});

test('an edge on a masked pin is lost', t => {
  const { ioapic, write, taken } = bench();
  write(0x10, EDGE);
  ioapic.set(0, true);
  write(0x10, EDGE & 0xffff);
  t.deepEqual(taken(), []);
});

test('the message has destination, mode and delivery mode of the entry; the level of its trigger', t => {
  const { ioapic, route, taken } = bench();
  const entries = [{ dm: 1 }, { dlm: 1 }, { dlm: 7 }, { destination: 0xff }, { trigger: 1 }, { polarity: 1 }];
  for (const [pin, values] of entries.entries()) {
    route(pin, RedirectionEntry.encode({ ...UNMASKED_EDGE, ...values }));
    ioapic.set(pin, true);
  }
  const expected = ['fee03004 41', 'fee03000 141', 'fee03000 741', 'feeff000 41', 'fee03000 c041', 'fee03000 41'];
  t.deepEqual(
    taken(),
    expected.map(message => `0 ${message}`),
  );
});

test('remappable format: index bits 14:0 in bits 19:5 of the address, bit 15 in bit 2, and bit 4 set', t => {
  const { ioapic, route, taken } = bench();
  for (const [pin, index] of [1, 0x7fff, 0x8005].entries()) {
    const values = { format: 1, indexLow: index & 0x7fff, indexHigh: index >>> 15, vector: pin };
    route(pin, RemappableRedirectionEntry.encode(values));
    ioapic.set(pin, true);
  }
  t.deepEqual(taken(), ['0 fee00030 0', '0 feeffff0 1', '0 fee000b4 2']);
});

test('a level is sent once, shows remote IRR, and is sent again after its end while it is still asserted', t => {
  const { ioapic, route, read, taken } = bench();
  route(9, RedirectionEntry.encode(LEVEL));
  ioapic.set(9, true);
  ioapic.set(9, true);
  t.deepEqual(taken(), ['0 fee03000 c041']);
  t.is(read(0x10 + 18) & REMOTE_IRR, REMOTE_IRR);
  ioapic.endOfInterrupt(0x42);
  t.deepEqual(taken(), [], 'another vector ended');
  ioapic.endOfInterrupt(0x41);
  t.deepEqual(taken(), ['0 fee03000 c041']);
  ioapic.set(9, false);
  ioapic.endOfInterrupt(0x41);
  t.deepEqual(taken(), []);
  t.is(read(0x10 + 18) & REMOTE_IRR, 0);
  ioapic.set(9, true);
  t.deepEqual(taken(), ['0 fee03000 c041']);
});

test('the EOI register ends every level triggered interrupt of its vector', t => {
  const { ioapic, route, set, taken } = bench();
  for (const pin of [3, 7]) route(pin, RedirectionEntry.encode({ ...LEVEL, destination: pin }));
  for (const pin of [3, 7]) ioapic.set(pin, true);
  t.is(taken().length, 2);
  ioapic.set(3, false);
  set(IoApicOffset.EOI, 0x41);
  t.deepEqual(taken(), ['0 fee07000 c041']);
});

test('a level waits for its mask to be lifted', t => {
  const { ioapic, route, taken } = bench();
  route(9, RedirectionEntry.encode({ ...LEVEL, mask: 1 }));
  ioapic.set(9, true);
  t.deepEqual(taken(), []);
  route(9, RedirectionEntry.encode(LEVEL));
  t.deepEqual(taken(), ['0 fee03000 c041']);
  route(9, RedirectionEntry.encode({ ...LEVEL, mask: 1 }));
  ioapic.endOfInterrupt(0x41);
  t.deepEqual(taken(), [], 'it ended while it was masked');
  route(9, RedirectionEntry.encode(LEVEL));
  t.deepEqual(taken(), ['0 fee03000 c041']);
});

test('changing to edge and back clears a remote IRR that no end will come for', t => {
  const { ioapic, route, read, taken } = bench();
  route(9, RedirectionEntry.encode(LEVEL));
  ioapic.set(9, true);
  ioapic.set(9, false);
  route(9, RedirectionEntry.encode({ ...UNMASKED_EDGE, mask: 1 }));
  t.is(read(0x10 + 18) & REMOTE_IRR, 0);
  taken();
  route(9, RedirectionEntry.encode(LEVEL));
  ioapic.set(9, true);
  t.deepEqual(taken(), ['0 fee03000 c041']);
});

test('reset masks every pin; what is asserted stays asserted', t => {
  const { ioapic, route, read, taken } = bench();
  route(9, RedirectionEntry.encode(LEVEL));
  ioapic.set(9, true);
  taken();
  ioapic.reset();
  t.is(read(0x10 + 18), 0x10000);
  t.is(read(0x11 + 18), 0);
  route(9, RedirectionEntry.encode(LEVEL));
  t.deepEqual(taken(), ['0 fee03000 c041']);
});

test('inspection shows the pins that are not masked, in their format', t => {
  const { ioapic, route } = bench();
  route(2, RemappableRedirectionEntry.encode({ format: 1, indexLow: 7, vector: 2 }));
  const into = new Inspector();
  ioapic.inspect(into);
  const shown = into.toJSON();
  t.deepEqual(Object.keys(shown), ['pin2']);
  t.like(shown['pin2'], { indexLow: 7, format: 1 });
});

test('on the board: at 0xfec00000, in the name of ff:00.0, remapped by the IOMMU of the root bus, reset with it', t => {
  const services = { name: 'vm', ram: Ram.allocate(0x100_0000), clock: new VirtualClock(), ledger: new Ledger() };
  const at = new Q35(services, q35Kind.properties.parse('q35', { memory: 0x100_0000 }));
  const write = (offset: number, value: number): void => {
    const bytes = Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
    t.is(at.addressSpace.write(0, IOAPIC_BASE + offset, bytes), MemTx.OK);
  };
  const arm = (): void => {
    write(IoApicOffset.SELECT, 0x14);
    write(IoApicOffset.DATA, 0x41);
  };
  arm();
  at.ioapic.set(2, true);
  const plain = { requesterId: IOAPIC_REQUESTER, address: 0xfee0_0000, data: 0x41 };
  t.deepEqual(at.messages.messages, [plain]);
  const asked: number[][] = [];
  let blocked = false;
  pciSetupIommu(at.rootBus, {
    wantsNesting: false,
    addressSpaceFor: () => at.addressSpace,
    remapInterrupt: (requesterId, hi, lo, data, out) => {
      asked.push([requesterId, hi, lo >>> 0, data]);
      out.send = true;
      out.lo = 0xfee0_1000;
      out.data = 0x30;
      return !blocked;
    },
  });
  at.ioapic.set(2, false);
  at.ioapic.set(2, true);
  t.deepEqual(asked, [[0xff00, 0, 0xfee0_0000, 0x41]]);
  const remapped = { requesterId: IOAPIC_REQUESTER, address: 0xfee0_1000, data: 0x30 };
  t.deepEqual(at.messages.messages, [plain, remapped]);
  blocked = true;
  at.ioapic.set(2, false);
  at.ioapic.set(2, true);
  t.is(at.messages.messages.length, 2);
  blocked = false;
  at.reset('hold');
  at.ioapic.set(2, false);
  at.ioapic.set(2, true);
  t.is(asked.length, 2, 'masked');
});

test('who watches the pins learns of every change, until he stops', t => {
  const ioapic = new IoApic(() => undefined);
  const seen: string[] = [];
  const watch = ioapic.watch((pin, asserted) => seen.push(`${pin}${asserted ? '+' : '-'}`));
  ioapic.set(4, false);
  ioapic.set(4, true);
  ioapic.set(4, true);
  ioapic.set(23, true);
  ioapic.set(4, false);
  t.deepEqual(seen, ['4+', '23+', '4-']);
  watch[Symbol.dispose]();
  ioapic.set(23, false);
  t.is(seen.length, 3);
});
