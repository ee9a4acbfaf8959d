/** Commands through the device TLB: what waits, what goes on, and what is left of it after a reset or in a saved state. */
import test from 'ava';
import {
  Access,
  AddressSpace,
  Ledger,
  MemTx,
  Ram,
  Region,
  sectionBytes,
  sectionFrom,
  StateReader,
  StateWriter,
  VirtualClock,
  WHOLE_SPACE,
} from '@remora/core';
import { AtsStatus, PageResponse, type PageRequest } from '@remora/iommu';
import { Command, Config, MsiLog, PciBus, type PciIommuOps, pciSetupIommu } from '@remora/pci';
import { DmaEngine } from './device.js';
import { dmaEngineKind } from './plugin.js';
import { Ctrl, EngineError, Operation, Reg, StatusWord } from './spec.js';

const BAR = 0xe000_0000;
const PAGE = 4096;

/** An engine whose addresses are frames of a list. `options` are further ones of the engine. */
function machine(options: Record<string, unknown> = {}) {
  const memory = Region.container('system', WHOLE_SPACE);
  const pci = Region.container('pci', WHOLE_SPACE);
  const ram = Ram.allocate(0x40_0000);
  memory.add(0, Region.ram('ram', ram));
  memory.add(0, pci, -1);
  const addressSpace = new AddressSpace('memory', memory);
  const messages = new MsiLog();
  const [clock, ledger] = [new VirtualClock(), new Ledger()];
  const ports = Region.container('io', 0x1_0000);
  const root = PciBus.root('pcie.0', { memory: pci, ports, addressSpace, msi: messages.deliver, ledger });
  /** By page: where it is. */
  const map = new Map<number, number>();
  const requests: PageRequest[] = [];
  const ops: PciIommuOps = {
    wantsNesting: false,
    addressSpaceFor: () => addressSpace,
    translationRequest: (_id, _pasid, _hi, lo, _access, out) => {
      const found = map.get(lo >>> 12);
      out.hi = 0;
      out.lo = (found ?? 0) * PAGE;
      out.shift = 12;
      out.access = found === undefined ? 0 : Access.READ_WRITE;
      out.untranslatedOnly = false;
      return AtsStatus.OK;
    },
    translatedRequest: () => AtsStatus.OK,
    pageRequest: request => (requests.push(request), true),
  };
  pciSetupIommu(root, ops);
  const config = dmaEngineKind.properties.parse('dma-engine', { ats: true, pri: true, ...options });
  const engine = new DmaEngine({ name: 'engine0', clock, ledger, plug: fn => root.plug(fn, 0x18) }, config);
  engine.realize();
  const { fn } = engine;
  fn.config.write(Config.COMMAND, Command.MEMORY | Command.MASTER, 2);
  fn.config.write(Config.BAR0, BAR, 4);
  fn.atsCapability?.enable(true);
  if (fn.priCapability !== undefined) {
    fn.config.write(fn.priCapability.offset + 12, 8, 4);
    fn.config.write(fn.priCapability.offset + 4, 1, 2);
  }
  const bytes = new Uint8Array(4);
  const view = new DataView(bytes.buffer);
  const set = (offset: number, value: number): void => {
    view.setUint32(0, value, true);
    addressSpace.write(0, BAR + offset, bytes);
  };
  const get = (offset: number): number => {
    addressSpace.read(0, BAR + offset, bytes);
    return view.getUint32(0, true);
  };
  const status = () => StatusWord.decode(Int32Array.of(get(Reg.STATUS)));
  const start = (command: number, source: number, target: number, length: number): void => {
    set(Reg.SRC_LO, source);
    set(Reg.DST_LO, target);
    set(Reg.LEN, length);
    set(Reg.CTRL, Ctrl.encode({ start: 1, command, interrupt: 1 })[0]!);
  };
  const respond = (code: number = PageResponse.SUCCESS): void => fn.ats!.pageResponse(-1, requests.at(-1)!.group, code);
  const load = (address: number, length: number): Uint8Array => {
    const out = new Uint8Array(length);
    ram.read(0, address, out);
    return out;
  };
  return { engine, fn, ram, map, requests, clock, ledger, messages, set, get, status, start, respond, load };
}

const BUSY = { busy: 1, done: 0, error: 0, result: 0, failedWrite: 0 };
const DONE = { busy: 0, done: 1, error: 0, result: 0, failedWrite: 0 };

test('a copy that waits for its target writes what it read before, once the page is there', t => {
  const { ram, map, requests, messages, fn, get, status, start, respond, load } = machine();
  fn.config.write(fn.capabilities.find(5)! + 4, 0xfee0_0000, 4);
  fn.config.write(fn.capabilities.find(5)! + 12, 0x55, 2);
  fn.config.write(fn.capabilities.find(5)! + 2, 1, 2);
  ram.write(0, 0x1_0000, Uint8Array.of(1, 2, 3, 4));
  map.set(1, 0x10);
  start(Operation.COPY, 0x1000, 0x2008, 4);
  t.deepEqual(status(), BUSY);
  t.like(requests[0], { lo: 0x2000, access: Access.WRITE });
  ram.write(0, 0x1_0000, Uint8Array.of(9, 9, 9, 9));
  map.set(2, 0x20);
  respond();
  t.deepEqual(status(), DONE);
  t.deepEqual(load(0x2_0008, 4), Uint8Array.of(1, 2, 3, 4));
  t.is(get(Reg.MOVED), 4);
  t.is(messages.messages.length, 1, 'the interrupt comes when the command has ended');
});

test('while it waits, registers keep their values', t => {
  const { map, requests, set, get, status, start, respond, load } = machine();
  set(Reg.PATTERN, 0x0707_0707);
  start(Operation.FILL, 0, 0x2000, 4);
  set(Reg.DST_LO, 0x3000);
  set(Reg.PATTERN, 0);
  set(Reg.CTRL, 1);
  t.deepEqual([get(Reg.DST_LO), status().busy, requests.length], [0x2000, 1, 1]);
  map.set(2, 0x20);
  respond();
  t.deepEqual(load(0x2_0000, 4), Uint8Array.of(7, 7, 7, 7));
});

test('it waits as often as pages are absent, and a fill goes on with its pattern', t => {
  const { map, requests, set, status, start, respond, load } = machine();
  set(Reg.PATTERN, 0x4433_2211);
  start(Operation.FILL, 0, 0x1fff, 2 * PAGE);
  for (const [index, page] of [1, 2, 3].entries()) {
    t.deepEqual([requests.length, requests.at(-1)!.lo, status().busy], [index + 1, page * PAGE, 1]);
    map.set(page, 0x40 + page);
    respond();
  }
  t.deepEqual(status(), DONE);
  t.deepEqual(load(0x4_1fff, 1), Uint8Array.of(0x11));
  t.deepEqual(load(0x4_2000, 4), Uint8Array.of(0x22, 0x33, 0x44, 0x11));
  t.deepEqual(load(0x4_3000, 3), Uint8Array.of(0x22, 0x33, 0x44));
  t.deepEqual(load(0x4_3ffe, 2), Uint8Array.of(0x44, 0));
});

test('a refused page is an error of its own, with the address; the next command is a new one', t => {
  const { map, get, set, status, start, respond, load } = machine();
  set(Reg.PATTERN, -1);
  start(Operation.FILL, 0, 0x2004, 4);
  respond(PageResponse.INVALID_REQUEST);
  t.deepEqual(status(), { busy: 0, done: 1, error: EngineError.PAGE, result: MemTx.ACCESS_ERROR, failedWrite: 1 });
  t.deepEqual([get(Reg.FAIL_LO), get(Reg.MOVED)], [0x2004, 0]);
  map.set(2, 0x20);
  start(Operation.FILL, 0, 0x2004, 4);
  t.deepEqual(status(), DONE);
  t.deepEqual(load(0x2_0004, 4), new Uint8Array(4).fill(0xff));
});

test('without page requests an absent page is an error of memory, at once', t => {
  const { requests, status, start, clock } = machine({ pri: false });
  start(Operation.FILL, 0, 0x2000, 4);
  t.deepEqual(status(), { busy: 0, done: 1, error: EngineError.MEMORY, result: MemTx.ACCESS_ERROR, failedWrite: 1 });
  t.deepEqual([requests.length, clock.next()], [0, undefined]);
});

test('without ats there is nothing to enable', t => {
  const { fn } = machine({ ats: false, pri: false });
  t.deepEqual([fn.atsCapability, fn.priCapability, fn.ats], [undefined, undefined, undefined]);
});

test('reset, unplugging and disposal end a command that waits', t => {
  const ways: ((at: ReturnType<typeof machine>) => void)[] = [
    ({ engine }) => engine.reset('enter'),
    ({ fn }) => fn.reset(),
    ({ engine }) => engine.unplug(),
    ({ engine }) => engine[Symbol.dispose](),
  ];
  for (const way of ways) {
    const at = machine();
    at.set(Reg.PATTERN, -1);
    at.start(Operation.FILL, 0, 0x2000, 4);
    way(at);
    at.map.set(2, 0x20);
    at.respond();
    t.deepEqual(at.load(0x2_0000, 4), new Uint8Array(4));
    t.is(at.clock.next(), undefined);
  }
});

test('the ledger shows where a command stopped, and that it went on', t => {
  const { map, ledger, start, respond } = machine();
  ledger.on = true;
  start(Operation.FILL, 0, 0x2000, 4);
  map.set(2, 0x20);
  respond();
  const commands = ledger.events.filter(({ kind }) => kind === 'dma-command').map(({ data }) => data);
  t.is(commands.length, 2);
  t.like(commands[0], { status: 'busy=1', moved: 0 });
  t.like(commands[1], { status: 'done=1', moved: 4, resumed: true });
});

test('saved while it waits and loaded elsewhere, it goes on when the response comes, with the bytes it had read', t => {
  const one = machine();
  one.ram.write(0, 0x1_0000, new Uint8Array(2 * PAGE).fill(5));
  one.map.set(1, 0x10).set(2, 0x11).set(5, 0x20);
  one.start(Operation.COPY, 0x1800, 0x5800, PAGE);
  t.deepEqual([one.status().busy, one.get(Reg.MOVED)], [1, 0x800]);
  const into = new StateWriter();
  one.fn.save(into.child('function'));
  one.engine.save(into.child('engine'));

  const other = machine();
  const from = new StateReader(sectionFrom(sectionBytes(into.section), 'state'));
  other.engine.reset('enter');
  other.engine.reset('hold');
  other.fn.load(from.child('function'));
  other.engine.load(from.child('engine'));
  from.done();
  t.deepEqual(other.status(), BUSY);
  other.map.set(6, 0x21);
  other.fn.ats!.pageResponse(-1, one.requests[0]!.group, PageResponse.SUCCESS);
  t.deepEqual([other.status(), other.get(Reg.MOVED)], [DONE, PAGE]);
  t.deepEqual(other.load(0x2_1000, 0x801), Uint8Array.of(...new Uint8Array(0x800).fill(5), 0));
});
