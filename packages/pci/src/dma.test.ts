import test from 'ava';
import { Access, AddressSpace, Ledger, MemTx, NO_PASID, Ram, Region, type TxAttrs, WHOLE_SPACE } from '@remora/core';
import { PciBridge } from './bridge.js';
import { PciBus } from './bus.js';
import { aliasRequesterId } from './dma.js';
import { type PciIommuOps, pciSetupIommu } from './iommu.js';
import { Command, Config } from './registers.js';
import { enable, endpoint, number, platform } from './platform.test.helper.js';

interface Seen {
  readonly requesterId: number;
  readonly pasid: number;
  readonly flags: number;
  readonly write: boolean;
}

/** An IOMMU that lets everything through to 1 MiB of its own and records who came, and for which place it was asked. */
function recorder() {
  const seen: Seen[] = [];
  const asked: string[] = [];
  const note = (attrs: TxAttrs, write: boolean): void =>
    void seen.push({ requesterId: attrs.requesterId, pasid: attrs.pasid, flags: attrs.flags, write });
  const behind = Region.mmio('behind', 0x10_0000, {
    read: (_offset, _size, attrs) => (note(attrs, false), 0x42),
    write: (_offset, _value, _size, attrs) => note(attrs, true),
  });
  const space = new AddressSpace('behind', behind);
  const addressSpaceFor = (bus: PciBus, devfn: number): AddressSpace => {
    asked.push(`${bus.name}:${devfn}`);
    return space;
  };
  return { seen, asked, ops: { wantsNesting: false, addressSpaceFor } };
}

const DWORD = Uint8Array.of(1, 2, 3, 4);

test('without an IOMMU, DMA reaches system memory, and only while bus mastering is on', t => {
  const { root, addressSpace } = platform();
  const fn = endpoint();
  root.plug(fn, 0x18);
  t.is(fn.dma.write(0, 0x2000, DWORD), MemTx.ACCESS_ERROR);
  enable(fn, Command.MASTER);
  t.is(fn.dma.write(0, 0x2001, DWORD), MemTx.OK);
  const out = new Uint8Array(4);
  addressSpace.read(0, 0x2001, out);
  t.deepEqual(out, DWORD);
  enable(fn, Command.MEMORY);
  t.is(fn.dma.read(0, 0x2001, out), MemTx.ACCESS_ERROR);
  t.is(fn.dma.addressSpace, addressSpace);
});

test('the gate is closed by any one bridge on the way', t => {
  const { root } = platform();
  const outer = new PciBridge('outer', 'root-port', { vendor: 1, device: 1 });
  const inner = new PciBridge('inner', 'pci', { vendor: 1, device: 2 });
  const fn = endpoint();
  root.plug(outer.fn, 0x08);
  outer.secondary.plug(inner.fn, 0);
  inner.secondary.plug(fn, 0x08);
  const chain = [fn, inner.fn, outer.fn];
  for (const each of chain) enable(each);
  t.is(fn.dma.write(0, 0, DWORD), MemTx.OK);
  for (const each of chain) {
    enable(each, Command.MEMORY);
    t.false(fn.dma.open);
    t.is(fn.dma.write(0, 0, DWORD), MemTx.ACCESS_ERROR, `${each.name} lets it through`);
    t.is(fn.dma.write(0, 0xfee0_0000, DWORD), MemTx.ACCESS_ERROR, `${each.name} lets messages through`);
    enable(each);
  }
  t.true(fn.dma.open);
});

test('interrupt requests go through the remapping of the IOMMU, by live requester id and before the sink', t => {
  const { root, addressSpace, messages } = platform();
  const port = new PciBridge('port', 'root-port', { vendor: 1, device: 1 });
  const fn = endpoint();
  root.plug(port.fn, 0x08);
  port.secondary.plug(fn, 0);
  number(port.fn, 5, 5);
  enable(port.fn);
  enable(fn);
  const asked: number[][] = [];
  /** By data: 1 is blocked, 2 is posted, others are remapped. */
  const remapInterrupt: PciIommuOps['remapInterrupt'] = (requesterId, hi, lo, data, out) => {
    asked.push([requesterId, hi, lo, data]);
    out.send = data !== 2;
    out.hi = 0x100;
    out.lo = 0xfee0_300c;
    out.data = 0x4041;
    return data !== 1;
  };
  const registration = pciSetupIommu(root, {
    wantsNesting: false,
    addressSpaceFor: () => addressSpace,
    remapInterrupt,
  });
  t.is(fn.dma.message(0, 0xfee0_0010, 0), MemTx.OK);
  t.is(fn.dma.message(0, 0xfee0_0030, 1), MemTx.ACCESS_ERROR);
  t.is(fn.dma.message(0, 0xfee0_0030, 2), MemTx.OK);
  const at = (lo: number, data: number): number[] => [0x500, 0, lo, data];
  t.deepEqual(asked, [at(0xfee0_0010, 0), at(0xfee0_0030, 1), at(0xfee0_0030, 2)]);
  t.deepEqual(messages.messages, [{ requesterId: 0x500, address: 0x100_fee0_300c, data: 0x4041 }]);
  registration[Symbol.dispose]();
  fn.dma.message(0, 0xfee0_0010, 0x31);
  t.deepEqual(messages.messages[1], { requesterId: 0x500, address: 0xfee0_0010, data: 0x31 });
});

test('what is no interrupt request is not remapped: a PASID, another size, an address above', t => {
  const { root } = platform();
  const { ops, seen } = recorder();
  const fn = endpoint();
  root.plug(fn, 0x18);
  enable(fn);
  pciSetupIommu(root, { ...ops, remapInterrupt: () => t.fail() });
  fn.dma.write(0, 0xfee0_0000, DWORD, 1);
  t.is(fn.dma.write(0, 0xfee0_0000, Uint8Array.of(1, 2)), MemTx.ACCESS_ERROR);
  fn.dma.write(1, 0xfee0_0000, DWORD);
  t.deepEqual(seen, [], 'nothing is behind this IOMMU there');
});

test('requests carry requester id, PASID and flags to the IOMMU', t => {
  const { root } = platform();
  const { ops, seen } = recorder();
  pciSetupIommu(root, ops);
  const fn = endpoint();
  root.plug(fn, 0x1a);
  enable(fn);
  fn.dma.write(0, 0x100, DWORD, 0xf_ffff, Access.PRIVILEGED);
  fn.dma.read(0, 0x100, new Uint8Array(4));
  t.deepEqual(seen, [
    { requesterId: 0x1a, pasid: 0xf_ffff, flags: Access.PRIVILEGED, write: true },
    { requesterId: 0x1a, pasid: NO_PASID, flags: 0, write: false },
  ]);
});

test('renumbering a bus between two DMAs changes the requester id, not the place that the IOMMU knows', t => {
  const { root } = platform();
  const { ops, seen, asked } = recorder();
  pciSetupIommu(root, ops);
  const port = new PciBridge('port', 'root-port', { vendor: 1, device: 1 });
  const fn = endpoint();
  root.plug(port.fn, 0x08);
  port.secondary.plug(fn, 1);
  enable(port.fn);
  enable(fn);
  number(port.fn, 3, 3);
  fn.dma.write(0, 0, DWORD);
  port.fn.config.write(Config.SECONDARY_BUS, 0x41, 1);
  fn.dma.write(0, 0, DWORD);
  t.deepEqual(
    seen.map(each => each.requesterId),
    [0x0301, 0x4101],
  );
  t.deepEqual(asked, ['port:1']);
});

test('the nearest bus that has an IOMMU counts', t => {
  const { root } = platform();
  const far = recorder();
  const near = recorder();
  const port = new PciBridge('port', 'root-port', { vendor: 1, device: 1 });
  const fn = endpoint();
  root.plug(port.fn, 0x08);
  port.secondary.plug(fn, 0);
  enable(port.fn);
  enable(fn);
  pciSetupIommu(root, far.ops);
  fn.dma.write(0, 0, DWORD);
  const registration = pciSetupIommu(port.secondary, near.ops);
  fn.dma.write(0, 0, DWORD);
  registration[Symbol.dispose]();
  fn.dma.write(0, 0, DWORD);
  t.deepEqual([far.seen.length, near.seen.length], [2, 1]);
});

test('behind a PCIe-to-PCI bridge all functions are (secondary bus, 00.0), in DMA and in messages', t => {
  const { root, messages } = platform();
  const { ops, seen, asked } = recorder();
  pciSetupIommu(root, ops);
  const bridge = new PciBridge('bridge', 'pcie-to-pci', { vendor: 1, device: 1 });
  const first = endpoint('first');
  const second = endpoint('second');
  root.plug(bridge.fn, 0x10);
  bridge.secondary.plug(first, 0x08);
  bridge.secondary.plug(second, 0x1b);
  number(bridge.fn, 6, 6);
  for (const each of [bridge.fn, first, second]) enable(each);
  first.dma.write(0, 0, DWORD);
  second.dma.write(0, 0, DWORD);
  second.dma.write(0, 0xfee0_0000, DWORD);
  t.deepEqual(
    seen.map(each => each.requesterId),
    [0x0600, 0x0600],
  );
  t.deepEqual(asked, ['bridge:0', 'bridge:0']);
  t.deepEqual(messages.messages, [{ requesterId: 0x0600, address: 0xfee0_0000, data: 0x0403_0201 }]);
  t.is(aliasRequesterId(second), 0x0600);
  t.is(second.requesterId, 0x061b);
});

test('behind a conventional bridge, the bridge speaks for all; behind a PCIe-to-PCI one above it, that one does', t => {
  const { root } = platform();
  const conventional = new PciBridge('conventional', 'pci', { vendor: 1, device: 2 });
  const fn = endpoint();
  root.plug(conventional.fn, 0x28);
  conventional.secondary.plug(fn, 0x30);
  number(conventional.fn, 4, 4);
  t.is(aliasRequesterId(fn), 0x0028);

  const express = new PciBridge('express', 'pcie-to-pci', { vendor: 1, device: 1 });
  const nested = new PciBridge('nested', 'pci', { vendor: 1, device: 2 });
  const deep = endpoint('deep');
  root.plug(express.fn, 0x10);
  express.secondary.plug(nested.fn, 0x08);
  nested.secondary.plug(deep, 0x10);
  number(express.fn, 8, 9);
  number(nested.fn, 9, 9);
  t.is(aliasRequesterId(deep), 0x0800);
});

test('a PASID goes nowhere without an IOMMU, nor through a conventional bus', t => {
  const { root } = platform();
  const plain = endpoint('plain');
  root.plug(plain, 0x08);
  enable(plain);
  t.is(plain.dma.write(0, 0x1000, DWORD, 5), MemTx.ACCESS_ERROR);
  const { ops, seen } = recorder();
  pciSetupIommu(root, ops);
  const bridge = new PciBridge('bridge', 'pcie-to-pci', { vendor: 1, device: 1 });
  const fn = endpoint();
  root.plug(bridge.fn, 0x10);
  bridge.secondary.plug(fn, 0);
  enable(bridge.fn);
  enable(fn);
  t.is(fn.dma.write(0, 0, DWORD, 5), MemTx.ACCESS_ERROR);
  t.deepEqual(seen, []);
  t.is(plain.dma.write(0, 0, DWORD, 5), MemTx.OK);
});

test('interrupt requests: an aligned DWORD without PASID, and nothing else, in exactly that range', t => {
  const { root, messages } = platform();
  const { ops, seen } = recorder();
  pciSetupIommu(root, ops);
  const fn = endpoint();
  root.plug(fn, 0x18);
  enable(fn);
  t.is(fn.dma.write(0, 0xfeef_fffc, DWORD), MemTx.OK);
  t.deepEqual(messages.messages, [{ requesterId: 0x18, address: 0xfeef_fffc, data: 0x0403_0201 }]);
  t.is(fn.dma.write(0, 0xfee0_0002, DWORD), MemTx.ACCESS_ERROR);
  t.is(fn.dma.write(0, 0xfee0_0000, Uint8Array.of(1, 2)), MemTx.ACCESS_ERROR);
  t.is(fn.dma.write(0, 0xfee0_0000, new Uint8Array(8)), MemTx.ACCESS_ERROR);
  t.is(messages.messages.length, 1);
  t.deepEqual(seen, []);
  t.is(fn.dma.write(0, 0xfef0_0000, DWORD), MemTx.DECODE_ERROR, 'above the range: an address like any other');
  t.is(fn.dma.write(1, 0xfee0_0000, DWORD), MemTx.DECODE_ERROR, 'an alias above 4 GiB');
  t.is(fn.dma.write(0, 0xfee0_0000, DWORD, 7), MemTx.DECODE_ERROR, 'with PASID');
  t.is(messages.messages.length, 1);
});

test('a write that runs into the range ends there', t => {
  const { messages } = platform();
  const memory = Region.container('system', WHOLE_SPACE);
  memory.add(0xfed0_0000, Region.ram('low', Ram.allocate(0x20_0000)));
  const addressSpace = new AddressSpace('memory', memory);
  const ports = Region.container('io', 0x1_0000);
  const root = PciBus.root('pcie.0', { memory, ports, addressSpace, msi: messages.deliver });
  const fn = endpoint();
  root.plug(fn, 0);
  enable(fn);
  t.is(fn.dma.write(0, 0xfedf_fffe, Uint8Array.of(9, 8, 1, 2, 3, 4)), MemTx.OK);
  t.deepEqual(messages.messages, [{ requesterId: 0, address: 0xfee0_0000, data: 0x0403_0201 }]);
  const out = new Uint8Array(4);
  addressSpace.read(0, 0xfedf_fffe, out);
  t.deepEqual(out, Uint8Array.of(9, 8, 0, 0));
  t.is(fn.dma.write(0, 0xfedf_fffe, new Uint8Array(8)), MemTx.ACCESS_ERROR);
});

test('a DMA that makes its own device master the bus again keeps its own attributes', t => {
  const { root } = platform();
  const fn = endpoint();
  const pasids: number[] = [];
  const region = Region.mmio('again', 0x1000, {
    reentrant: true,
    read: () => 0,
    write: (offset, _value, _size, attrs) => {
      if (offset === 0) fn.dma.write(0, 0x10, DWORD, 9);
      pasids.push(attrs.pasid);
    },
  });
  pciSetupIommu(root, { wantsNesting: false, addressSpaceFor: () => space });
  const space = new AddressSpace('again', region);
  root.plug(fn, 0x08);
  enable(fn);
  fn.dma.write(0, 0, new Uint8Array(8), 3);
  t.deepEqual(pasids, [9, 3, 3]);
});

test('DMA is in the ledger, with who, where and what came of it', t => {
  const { addressSpace, messages } = platform();
  const ledger = new Ledger();
  const memory = Region.container('pci', WHOLE_SPACE);
  const root = PciBus.root('pcie.0', { memory, ports: memory, addressSpace, msi: messages.deliver, ledger });
  const fn = endpoint('engine');
  root.plug(fn, 0x18);
  enable(fn);
  fn.dma.write(0, 0x1000, DWORD);
  ledger.on = true;
  fn.dma.write(0, 0x1000, DWORD);
  fn.dma.read(0x10, 0, DWORD, 4);
  t.deepEqual(
    ledger.events.map(event => [event.source, event.kind, event.data]),
    [
      ['engine', 'dma', { requesterId: 0x18, write: true, hi: 0, lo: 0x1000, bytes: 4, pasid: -1, result: MemTx.OK }],
      [
        'engine',
        'dma',
        { requesterId: 0x18, write: false, hi: 0x10, lo: 0, bytes: 4, pasid: 4, result: MemTx.ACCESS_ERROR },
      ],
    ],
  );
});
