/** Behaviours 69 to 75: the VMID of a container, judged by the tags in the physical unit's tables and by DMA. */
import assert from 'node:assert/strict';
import { Errno, PAGE_BYTES } from '@remora/core';
import type { HostProcess, SimulatedHost } from '@remora/host-sim';
import { ENGINE, SECOND_ENGINE } from '@remora/machines';
import { ENGINE_ID } from '../propagation/physical-fault.js';
import { NestingContainer } from '../rig/nesting-container.js';

export interface VmidBehaviour {
  readonly number: number;
  readonly title: string;
  run(host: SimulatedHost, start: StartProcess): void;
}

/** A process by name; whoever runs the behaviour ends it. */
export type StartProcess = (name: string) => HostProcess;

const INVALID = 0xffff_ffff;
/** Away from what the host chooses by itself. */
const VMID = 0x42;
const IOVA = 5;
const BYTES = Uint8Array.of(1, 2, 3, 4);
const TYPE1V2 = 3;

export function first(host: SimulatedHost, process: HostProcess): NestingContainer {
  return new NestingContainer(host, process, ENGINE, 1);
}

export function second(host: SimulatedHost, process: HostProcess): NestingContainer {
  return new NestingContainer(host, process, SECOND_ENGINE, 2);
}

/** The engine's write reaches a page of its process, and no other address. */
export function assertWorks(process: HostProcess, container: NestingContainer): void {
  const memory = process.mmap(PAGE_BYTES);
  assert.ok(typeof memory !== 'number');
  assert.equal(container.map(IOVA, memory.address), 0);
  assert.ok(container.writes(IOVA, BYTES));
  const read = new Uint8Array(4);
  memory.ram.read(0, 0, read);
  assert.deepEqual(read, BYTES);
  assert.ok(!container.writes(IOVA + 1, BYTES));
  assert.equal(container.unmap(IOVA), 0);
  assert.ok(!container.writes(IOVA, BYTES));
}

export const vmidBehaviours: readonly VmidBehaviour[] = [
  {
    number: 69,
    title: 'GET_VMID of a fresh container tells the invalid value',
    run(host, start) {
      const process = start('vm0');
      assert.equal(first(host, process).vmid, INVALID);
    },
  },
  {
    number: 70,
    title: 'SET_VMID of the invalid value is EINVAL, and nothing changes',
    run(host, start) {
      const process = start('vm0');
      const container = first(host, process);
      assert.equal(container.setVmid(VMID), 0);
      assert.equal(container.setVmid(INVALID), -Errno.EINVAL);
      assert.equal(container.vmid, VMID);
    },
  },
  {
    number: 71,
    title: 'set before SET_IOMMU it is the tag of the domain',
    run(host, start) {
      const process = start('vm0');
      const container = first(host, process);
      assert.equal(container.setVmid(VMID), 0);
      assert.equal(container.tag, undefined, 'not before there is a domain');
      assert.equal(container.setIommu(), 0);
      assert.deepEqual([container.tag, container.vmid], [VMID, VMID]);
      assertWorks(process, container);
    },
  },
  {
    number: 72,
    title: 'set after SET_IOMMU it changes the number of the container, and not the domain',
    run(host, start) {
      const process = start('vm0');
      const container = first(host, process);
      assert.equal(container.setIommu(), 0);
      const { tag } = container;
      assert.equal(container.vmid, tag);
      assert.equal(container.setVmid(VMID), 0);
      assert.deepEqual([container.tag, container.vmid], [tag, VMID]);
      assertWorks(process, container);
    },
  },
  {
    number: 73,
    title: 'a container that does not nest stores it, and its domain never hears of it',
    run(host, start) {
      const process = start('vm0');
      const container = first(host, process);
      assert.equal(container.setVmid(VMID), 0);
      assert.equal(container.setIommu(TYPE1V2), 0);
      assert.equal(container.vmid, VMID);
      assert.notEqual(container.tag, VMID);
      assertWorks(process, container);
      const other = second(host, process);
      assert.equal(other.setIommu(TYPE1V2), 0);
      assert.equal(other.vmid, INVALID, 'nor does such a domain tell its tag');
    },
  },
  {
    number: 74,
    title: 'a domain that is in use does not take another: EPERM of the driver',
    run(host) {
      const domain = host.iommu!.driver.createDomain();
      assert.ok(typeof domain !== 'number');
      assert.equal(domain.setTag!(VMID), 0);
      assert.equal(domain.attach(ENGINE_ID), 0);
      assert.equal(domain.setTag!(VMID + 1), -Errno.EPERM);
      assert.equal(domain.id, VMID);
      domain[Symbol.dispose]();
    },
  },
  {
    number: 75,
    title: 'two domains share it: it is free when the second of them is gone',
    run(host, start) {
      const process = start('vm0');
      const [one, other] = [first(host, process), second(host, process)];
      assert.equal(one.setIommu(), 0);
      const { vmid } = one;
      assert.equal(other.setVmid(vmid), 0);
      assert.equal(other.setIommu(), 0);
      assert.deepEqual([one.tag, other.tag], [vmid, vmid]);
      one.close();
      assertWorks(process, other);
      const stranger = start('vm1');
      const theirs = first(host, stranger);
      assert.equal(theirs.setVmid(vmid), 0);
      assert.equal(theirs.setIommu(), -Errno.EACCES, 'it is still in use');
      other.close();
      assert.equal(theirs.setIommu(), 0);
      assert.equal(theirs.tag, vmid);
      assertWorks(stranger, theirs);
    },
  },
];
