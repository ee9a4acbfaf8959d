/** A VM's process on a bench host, as far as the VFIO client needs one: RAM that is shown through an address space. */
import type { ExecutionContext } from 'ava';
import type { Hva } from '@remora/bits';
import type { Ram } from '@remora/core';
import { AddressSpace, Region, type Section } from '@remora/core';
import { type VfioConnectOptions, VfioContainer, type VfioQuirks } from '@remora/host';
import type { Stage1Config } from '@remora/iommu';
import { FaultPlan, owner } from '@remora/testing';
import { bench, type Bench, ENGINE, mapped, SECOND } from './bench.test.helper.js';
import type { HostProcess } from './process.js';

export const NESTING = { name: 'container', wantsNesting: true };

export function stage1(root: number): Stage1Config {
  const attributes = { format: 1 as const, sre: 0, eafe: 0, pcd: 0, pwt: 0, emte: 0, cd: 0, pat: 0, emt: 0 };
  return { rootHi: 0, rootLo: root, addressWidth: 48, attributes };
}

export interface Vm extends Bench {
  readonly process: HostProcess;
  readonly plan: FaultPlan;
  /** Guest memory: `ram` at 0, shown through `root`. */
  readonly ram: Ram;
  readonly root: Region;
  readonly space: AddressSpace;
  addressOf(section: Section): Hva | undefined;
}

export function vmOn(made: Bench, name = 'vm0', pages = 16): Vm {
  const process = made.host.process(name);
  const memory = mapped(process, pages * 4096);
  const root = Region.container('guest', 2 ** 40);
  root.add(0, Region.ram('ram', memory.ram));
  return {
    ...made,
    process,
    plan: new FaultPlan(process),
    ram: memory.ram,
    root,
    space: new AddressSpace('guest', root),
    addressOf: section => (section.region.ram === memory.ram ? memory.address : undefined),
  };
}

export function connectOptions(vm: Vm, wantsNesting = true): VfioConnectOptions {
  return { wantsNesting, space: vm.space, memory: { addressOf: section => vm.addressOf(section) } };
}

export function fixture(t: ExecutionContext, options: Parameters<typeof bench>[0] = {}): Vm {
  return vmOn(owner(t)(bench(options)));
}

/** A container with groups `groups`, and the devices of the first two opened. */
export function container(vm: Vm, groups: readonly number[] = [1], quirks: VfioQuirks = {}): VfioContainer {
  const made = VfioContainer.open(vm.plan, { ...NESTING, quirks });
  for (const number of groups) made.attachGroup(number).openDevice(number === 1 ? ENGINE : SECOND);
  vm.driver.takeCalls();
  return made;
}
