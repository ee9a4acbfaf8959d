/** A host's driver on a rig, and a guest whose first stage is nested over a domain of it. */
import { Access, Errno } from '@remora/core';
import { type HostMappings, type Stage1Config, Stage1Flush, Stage1Format, type VtdStage1 } from '@remora/iommu';
import type { VtdConfig } from '../config/index.js';
import type { VtdEnvironment, VtdPropagation } from '../device/environment.js';
import type { VtdHostDomain } from './host-domain.js';
import { VtdHostDriver, type VtdHostOptions } from './host-driver.js';
import { FrameAllocator, type PageAllocator } from './page-allocator.js';
import { PageTable } from './page-table.js';
import { Rig } from './rig.test.helper.js';

export const DEVICE = 0x0018;
export const PASID = 0x1_2345;
export const PLAIN: VtdStage1 = {
  format: Stage1Format.INTEL_VTD,
  sre: 0,
  eafe: 0,
  pcd: 0,
  pwt: 0,
  emte: 0,
  cd: 0,
  pat: 0,
  emt: 0,
};

/** An allocator that can be told to run dry. */
export class Ration implements PageAllocator {
  left = Infinity;
  readonly #below: PageAllocator;

  constructor(below: PageAllocator) {
    this.#below = below;
  }

  allocate(pages: number): number {
    return this.left-- > 0 ? this.#below.allocate(pages) : -Errno.ENOMEM;
  }

  free(frame: number, pages: number): void {
    this.#below.free(frame, pages);
  }
}

export interface Host {
  readonly rig: Rig;
  readonly ration: Ration;
  readonly driver: VtdHostDriver;
}

export function host(
  options: Partial<VtdConfig> = {},
  propagation: VtdPropagation = {},
  more: VtdHostOptions = {},
  environment: Pick<VtdEnvironment, 'endpoint' | 'clock'> = {},
): Host {
  const rig = new Rig({ nesting: true, 'fault-records': 8, ...options }, propagation, environment);
  const ration = new Ration(rig.pages);
  const driver = new VtdHostDriver(rig.registers, rig.memory, ration, more);
  driver.start();
  return { rig, ration, driver };
}

/** A new domain. @throws Error if the driver has none. */
export function domainOf(driver: VtdHostDriver): VtdHostDomain {
  const domain = driver.createDomain();
  if (typeof domain === 'number') throw new Error(`no domain: ${domain}`);
  return domain;
}

/**
 * A guest's first stage whose tables lie at guest frames that the domain maps elsewhere: guest frame `g` is host frame `g ^ 1`, so
 * that nothing works by identity.
 */
export class Guest {
  readonly table: PageTable;
  readonly config: Stage1Config;
  readonly #domain: Pick<HostMappings, 'map'>;
  readonly #mapped = new Set<number>();

  constructor(rig: Rig, domain: Pick<HostMappings, 'map'>, first = 0x2000) {
    const pairs = new FrameAllocator(rig.memory, first, 0x100);
    const swapped = (hi: number, lo: number): [number, number] => [hi, lo ^ 0x1000];
    this.#domain = domain;
    this.table = new PageTable(
      {
        load: (hi, lo, out, at, count) => rig.memory.load(...swapped(hi, lo), out, at, count),
        store: (hi, lo, from, at, count) => rig.memory.store(...swapped(hi, lo), from, at, count),
        read: (hi, lo, out) => rig.memory.read(...swapped(hi, lo), out),
        write: (hi, lo, from) => rig.memory.write(...swapped(hi, lo), from),
      },
      {
        // In pairs, whose first frame is even, so that the neighbour's frame is free as well.
        allocate: () => {
          const pair = pairs.allocate(2);
          this.#lend(pair);
          return pair;
        },
        free: frame => pairs.free(frame, 2),
      },
      { stage: 'first', levels: 4 },
    );
    this.config = {
      rootHi: 0,
      rootLo: this.table.rootFrame * 4096,
      addressWidth: 48,
      attributes: PLAIN,
    };
  }

  /** Maps a virtual page to a guest frame, which the domain maps to its host frame. */
  map(page: number, guestFrame: number): void {
    this.#lend(guestFrame);
    this.table.map(page, guestFrame, 1, Access.READ_WRITE);
  }

  #lend(guestFrame: number): void {
    if (this.#mapped.has(guestFrame)) return;
    this.#mapped.add(guestFrame);
    this.#domain.map(guestFrame, guestFrame ^ 1, 1, Access.READ_WRITE);
  }
}

export function flush(values: Partial<Stage1Flush>): Stage1Flush {
  return Object.assign(new Stage1Flush(), { pasid: PASID, ...values });
}

export function succeed(t: { is(actual: number, expected: number): unknown }, ...results: readonly number[]): void {
  for (const result of results) t.is(result, 0);
}
