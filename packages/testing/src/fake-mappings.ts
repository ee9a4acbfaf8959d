/** What a fake domain maps. */
import { hex } from '@remora/bits';
import { Access, Errno } from '@remora/core';
import type { HostMappings } from '@remora/iommu';
import type { FakeIommuDriver } from './fake-iommu-driver.js';

export interface FakePage {
  readonly hostFrame: number;
  readonly access: number;
}

const ACCESS = ['-', 'r', 'w', 'rw'];

/** Mappings, in a map. */
export abstract class FakeMappings implements HostMappings {
  id: number;
  /** By IOVA frame. */
  readonly pages = new Map<number, FakePage>();
  readonly #driver: FakeIommuDriver;

  constructor(driver: FakeIommuDriver, id: number) {
    this.#driver = driver;
    this.id = id;
  }

  /** The page behind a page frame, if everything that `access` asks for is allowed there. */
  permitted(frame: number, access: number): FakePage | undefined {
    const page = this.pages.get(frame);
    const wanted = access & Access.READ_WRITE;
    return page !== undefined && (page.access & wanted) === wanted ? page : undefined;
  }

  map(iovaFrame: number, hostFrame: number, pages: number, access: number): number {
    const error = this.#driver.called('map', `${this.id} ${hex(0, iovaFrame)} +${pages} ${ACCESS[access & 3]}`);
    if (error !== 0) return error;
    for (let page = 0; page < pages; page++) if (this.pages.has(iovaFrame + page)) return -Errno.EEXIST;
    for (let page = 0; page < pages; page++) this.pages.set(iovaFrame + page, { hostFrame: hostFrame + page, access });
    return 0;
  }

  mapFrames(iovaFrame: number, hostFrames: Int32Array, access: number): number {
    const pages = hostFrames.length;
    const error = this.#driver.called('mapFrames', `${this.id} ${hex(0, iovaFrame)} +${pages} ${ACCESS[access & 3]}`);
    if (error !== 0) return error;
    for (let page = 0; page < pages; page++) if (this.pages.has(iovaFrame + page)) return -Errno.EEXIST;
    for (const [page, hostFrame] of hostFrames.entries()) this.pages.set(iovaFrame + page, { hostFrame, access });
    return 0;
  }

  unmap(iovaFrame: number, pages: number): number {
    const error = this.#driver.called('unmap', `${this.id} ${hex(0, iovaFrame)} +${pages}`);
    if (error !== 0) return error;
    for (let page = 0; page < pages; page++) this.pages.delete(iovaFrame + page);
    return 0;
  }

  abstract [Symbol.dispose](): void;
}
