/** Behaviours 1 to 12: virtual commands [A04, A07, A08, A10], in both register layouts. */
import assert from 'node:assert/strict';
import { Errno } from '@remora/core';
import type { Rig, RigOptions } from '../rig/rig.js';
import type { Behaviour, MakeRig } from './behaviour.js';
import { PASID_REQUEST, pasidAlloc, pasidFree } from './host-bytes.js';

interface Layout {
  readonly name: '3.0' | '3.3';
  readonly VCCAP: number;
  readonly VCMD: number;
  readonly VCRSP: number;
  /** Position of a PASID in VCMD and VCRSP. */
  readonly shift: bigint;
  /** VCRSP with the status of an undefined command, and of no PASID. */
  readonly undefined: bigint;
  readonly noPasid: bigint;
}

/** vsva.md 4.2. */
const LAYOUTS: readonly Layout[] = [
  { name: '3.0', VCCAP: 0xe00, VCMD: 0xe10, VCRSP: 0xe20, shift: 8n, undefined: 0x2n, noPasid: 0x4n },
  { name: '3.3', VCCAP: 0xe30, VCMD: 0xe00, VCRSP: 0xe10, shift: 16n, undefined: 0x2n, noPasid: 0x20n },
];

const ALLOCATE = 1n;

/** The same row in both layouts, each on a rig of its own. */
function inBothLayouts(run: (layout: Layout, make: MakeRig) => void): Behaviour['run'] {
  return make => {
    for (const layout of LAYOUTS) run(layout, (options: RigOptions = {}) => make({ layout: layout.name, ...options }));
  };
}

function command(rig: Rig, layout: Layout, value: bigint): bigint {
  rig.write64(layout.VCMD, value);
  return rig.read64(layout.VCRSP);
}

function free(layout: Layout, pasid: number): bigint {
  return 2n | (BigInt(pasid) << layout.shift);
}

/** A command that must reach the host: the control of rows in which nothing does. */
function control(rig: Rig, layout: Layout): void {
  command(rig, layout, ALLOCATE);
  assert.deepEqual(rig.take(), [pasidAlloc()]);
}

export const virtualCommandBehaviours: readonly Behaviour[] = [
  {
    number: 1,
    title: 'allocate: PASID_REQUEST for 1 .. 0xFFFFF, and the PASID in VCRSP',
    run: inBothLayouts((layout, make) => {
      const rig = make();
      const response = command(rig, layout, ALLOCATE);
      assert.deepEqual(rig.take(), [pasidAlloc()]);
      const pasid = rig.lastAllocated();
      assert.ok(pasid >= 1);
      assert.equal(response, BigInt(pasid) << layout.shift);
      assert.equal(rig.read64(layout.VCMD), ALLOCATE);
    }),
  },
  {
    number: 2,
    title: 'allocate, and the host refuses: no PASID',
    run: inBothLayouts((layout, make) => {
      const rig = make();
      rig.plan.arm({ request: PASID_REQUEST, result: -Errno.ENOSPC });
      assert.equal(command(rig, layout, ALLOCATE), layout.noPasid);
      assert.deepEqual(rig.take(), [pasidAlloc()]);
      assert.equal(command(rig, layout, ALLOCATE), BigInt(rig.lastAllocated()) << layout.shift);
    }),
  },
  {
    number: 3,
    title: 'free: PASID_REQUEST with the PASID, VCRSP is 0',
    run: inBothLayouts((layout, make) => {
      const rig = make();
      command(rig, layout, ALLOCATE);
      const pasid = rig.lastAllocated();
      rig.take();
      assert.equal(command(rig, layout, free(layout, pasid)), 0n);
      assert.deepEqual(rig.take(), [pasidFree(pasid)]);
      assert.ok(!rig.host.pasids().includes(pasid));
    }),
  },
  {
    number: 4,
    title: 'free, and the host refuses: no PASID',
    run: inBothLayouts((layout, make) => {
      const rig = make();
      assert.equal(command(rig, layout, free(layout, 0x7abcd)), layout.noPasid);
      assert.deepEqual(rig.take(), [pasidFree(0x7abcd)]);
    }),
  },
  {
    number: 5,
    title: 'an undefined command asks nobody',
    run: inBothLayouts((layout, make) => {
      const rig = make();
      for (const value of [0n, 3n, 0xffn]) {
        assert.equal(command(rig, layout, value), layout.undefined);
        assert.equal(rig.read64(layout.VCMD), value);
      }
      assert.deepEqual(rig.take(), []);
      control(rig, layout);
    }),
  },
  {
    number: 6,
    title: 'no virtual commands in legacy mode: nothing is written, nothing is read',
    run: inBothLayouts((layout, make) => {
      const rig = make({ iommu: 'x-scalable-mode=legacy,caching-mode=on', start: false });
      rig.write64(layout.VCMD, ALLOCATE);
      assert.equal(rig.read64(layout.VCMD), 0n);
      assert.equal(rig.read64(layout.VCRSP), 0n);
      assert.deepEqual(rig.take(), []);
      control(make(), layout);
    }),
  },
  {
    number: 7,
    title: 'a command while one is in progress is dropped',
    run: inBothLayouts((layout, make) => {
      const rig = make();
      const registers = rig.iommu.unit.registers;
      registers.set(layout.VCRSP, 1);
      rig.write64(layout.VCMD, ALLOCATE);
      assert.equal(rig.read64(layout.VCRSP), 1n);
      assert.equal(rig.read64(layout.VCMD), 0n);
      assert.deepEqual(rig.take(), []);
      registers.set(layout.VCRSP, 0);
      control(rig, layout);
    }),
  },
  {
    number: 8,
    title: 'allocate without a host-backed device: no PASID, nobody asked',
    run: inBothLayouts((layout, make) => {
      const rig = make({ functions: [], extra: ['dma-engine,addr=05.0'] });
      assert.equal(command(rig, layout, ALLOCATE), layout.noPasid);
      assert.deepEqual(rig.take(), []);
      control(make(), layout);
    }),
  },
  {
    number: 9,
    title: 'allocate on a host without PASID requests: no PASID, nobody asked',
    run: inBothLayouts((layout, make) => {
      const rig = make({ knobs: { pasidRequests: false } });
      assert.equal(command(rig, layout, ALLOCATE), layout.noPasid);
      assert.deepEqual(rig.take(), []);
      control(make(), layout);
    }),
  },
  {
    number: 10,
    title: 'devices on two buses: one host is asked',
    run: inBothLayouts((layout, make) => {
      const rig = make(twoBuses());
      command(rig, layout, ALLOCATE);
      assert.deepEqual(rig.take(), [pasidAlloc()]);
    }),
  },
  {
    number: 11,
    title: 'VCCAP and VCRSP are read-only',
    run: inBothLayouts((layout, make) => {
      const rig = make();
      const response = command(rig, layout, ALLOCATE);
      rig.take();
      rig.write64(layout.VCCAP, 0xffff_ffff_ffff_ffffn);
      rig.write64(layout.VCRSP, 0xffff_ffff_ffff_ffffn);
      assert.equal(rig.read64(layout.VCCAP), 1n);
      assert.equal(rig.read64(layout.VCRSP), response);
      assert.deepEqual(rig.take(), []);
      control(rig, layout);
    }),
  },
  {
    number: 12,
    title: 'two 32-bit writes: the low dword executes, the high dword alone does not',
    run: inBothLayouts((layout, make) => {
      const rig = make();
      rig.write32(layout.VCMD, 1);
      rig.write32(layout.VCMD + 4, 0);
      assert.deepEqual(rig.take(), [pasidAlloc()]);
      assert.equal(rig.read64(layout.VCRSP), BigInt(rig.lastAllocated()) << layout.shift);
      assert.equal(rig.read64(layout.VCMD), 1n);
    }),
  },
];

/** Two functions, one behind a root port, in containers of their own. */
export function twoBuses(): RigOptions {
  return {
    extra: ['pcie-root-port,id=rp0,addr=04.0'],
    functions: [
      { addr: '03.0', container: 'new' },
      { bus: 'rp0', addr: '00.0', container: 'new' },
    ],
  };
}
