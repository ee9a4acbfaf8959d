/** A fault queue of iommufd: page requests of one device, and their responses. */
import { Access, Errno, NO_PASID } from '@remora/core';
import { type HostIommuEvents, type HostPageRequest, PageResponse } from '@remora/iommu';
import {
  IommufdPageResponseCode,
  IommuHwptPageResponse,
  IommuHwptPgfault,
  IommuPgfaultFlag,
  IommuPgfaultPerm,
  viewOf,
} from '@remora/uapi';
import type { HostSyscalls } from '../syscalls.js';
import type { QueueFile } from './iommufd.js';
import { ReportFile } from './report-file.js';

export class PageRequests implements Disposable {
  /** The object's id, for HWPT_ALLOC. */
  readonly id: number;
  readonly file: ReportFile;
  readonly #syscalls: HostSyscalls;
  readonly #fd: number;
  /** Cookies of the groups that wait for a response, by PASID and group. */
  readonly #waiting = new Map<string, number>();
  #events: HostIommuEvents | undefined;

  constructor(syscalls: HostSyscalls, { id, fd }: QueueFile) {
    this.#syscalls = syscalls;
    this.id = id;
    this.#fd = fd;
    this.file = new ReportFile(syscalls, fd, IommuHwptPgfault.size, bytes => this.#take(bytes));
  }

  /** One listener at a time. When it leaves, what waits for its response is refused. */
  listen(events: HostIommuEvents): Disposable {
    this.#events = events;
    return {
      [Symbol.dispose]: () => {
        if (this.#events !== events) return;
        this.#events = undefined;
        this.#refuseAll();
      },
    };
  }

  /** -EINVAL if no such group waits, or not any more: the host gives up those of what was replaced. Codes that Linux does not know are INVALID. */
  respond(pasid: number, group: number, code: number): number {
    const key = `${pasid}/${group}`;
    const cookie = this.#waiting.get(key);
    if (cookie === undefined) return -Errno.EINVAL;
    // The device goes on within the write, and may use the group again.
    this.#waiting.delete(key);
    const result = this.#answer(cookie, code);
    if (result !== 0 && result !== -Errno.EINVAL) this.#waiting.set(key, cookie);
    return result;
  }

  /**
   * What served `pasid` (NO_PASID: requests without one) is gone, and the host has answered what waited for it. It gives the cookies of those
   * groups to others.
   */
  abandoned(pasid: number): void {
    for (const key of [...this.#waiting.keys()]) if (key.startsWith(`${pasid}/`)) this.#waiting.delete(key);
    this.#events?.abandoned(pasid);
  }

  /** Closes the file; the object is destroyed by whoever allocated it, after what uses it. */
  [Symbol.dispose](): void {
    this.#refuseAll();
    this.file[Symbol.dispose]();
  }

  #take(bytes: Uint8Array): void {
    const view = viewOf(bytes);
    const { flags, pasid, grpid, perm, addr, cookie } = IommuHwptPgfault.fields;
    for (let at = 0; at + IommuHwptPgfault.size <= bytes.length; at += IommuHwptPgfault.size) {
      const bits = flags.get(view, at);
      const request: HostPageRequest = {
        pasid: bits & IommuPgfaultFlag.PASID_VALID ? pasid.get(view, at) : NO_PASID,
        hi: addr.hi(view, at),
        lo: addr.lo(view, at),
        access: accessOf(perm.get(view, at)),
        group: grpid.get(view, at),
        last: (bits & IommuPgfaultFlag.LAST_PAGE) !== 0,
      };
      if (this.#events === undefined) {
        if (request.last) this.#answer(cookie.get(view, at), PageResponse.INVALID_REQUEST);
        continue;
      }
      if (request.last) this.#waiting.set(`${request.pasid}/${request.group}`, cookie.get(view, at));
      this.#events.pageRequest(request);
    }
  }

  #answer(cookie: number, code: number): number {
    const known = code === PageResponse.SUCCESS ? IommufdPageResponseCode.SUCCESS : IommufdPageResponseCode.INVALID;
    const bytes = IommuHwptPageResponse.encode({ cookie, code: known });
    const result = this.#syscalls.write(this.#fd, bytes);
    if (result < 0) return result;
    return result === bytes.length ? 0 : -Errno.EIO;
  }

  #refuseAll(): void {
    for (const cookie of this.#waiting.values()) this.#answer(cookie, PageResponse.INVALID_REQUEST);
    this.#waiting.clear();
  }
}

function accessOf(perm: number): number {
  return (
    (perm & IommuPgfaultPerm.READ ? Access.READ : 0) |
    (perm & IommuPgfaultPerm.WRITE ? Access.WRITE : 0) |
    (perm & IommuPgfaultPerm.EXEC ? Access.EXECUTE : 0) |
    (perm & IommuPgfaultPerm.PRIV ? Access.PRIVILEGED : 0)
  );
}
