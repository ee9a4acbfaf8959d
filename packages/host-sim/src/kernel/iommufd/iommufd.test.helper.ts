/** A bench with a program that has /dev/iommu open. */
import type { ExecutionContext } from 'ava';
import { MemTx } from '@remora/core';
import { IommufdUser, owner } from '@remora/testing';
import * as uapi from '@remora/uapi';
import { bench, type Bench, type BenchOptions, ENGINE, SECOND } from '../../bench.test.helper.js';
import type { HostProcess } from '../../process.js';

export const FIXED = uapi.IommuIoasMapFlag.FIXED_IOVA;
export const READ = uapi.IommuIoasMapFlag.READABLE;
export const WRITE = uapi.IommuIoasMapFlag.WRITEABLE;
export const RW = READ | WRITE;
export const PAGE = 0x1000;
const DEVICES = [ENGINE, SECOND] as const;
export const U64_MAX = 2n ** 64n - 1n;

/** IOVA and length, or -errno. */
export type Placed = { readonly iova: number | bigint } | number;

export class IommufdBench {
  readonly bench: Bench;
  readonly process: HostProcess;
  readonly user: IommufdUser;

  constructor(t: ExecutionContext, options: BenchOptions = {}) {
    this.bench = owner(t)(bench(options));
    this.process = this.bench.host.process('vmm');
    this.user = new IommufdUser(this.process);
  }

  map(
    ioas: number,
    values: { flags?: number; user_va: number | bigint; length: number | bigint; iova?: number | bigint },
  ): Placed {
    const { result, out } = this.user.call(uapi.IOMMU_IOAS_MAP, uapi.IommuIoasMap, {
      ioas_id: ioas,
      flags: values.iova === undefined ? RW : FIXED | RW,
      ...values,
    });
    return result === 0 ? { iova: out.iova } : result;
  }

  copy(
    target: number,
    source: number,
    values: { flags?: number; length: number | bigint; src_iova: number | bigint; dst_iova?: number | bigint },
  ): Placed {
    const { result, out } = this.user.call(uapi.IOMMU_IOAS_COPY, uapi.IommuIoasCopy, {
      dst_ioas_id: target,
      src_ioas_id: source,
      flags: values.dst_iova === undefined ? RW : FIXED | RW,
      ...values,
    });
    return result === 0 ? { iova: out.dst_iova } : result;
  }

  mapFile(
    ioas: number,
    values: { flags?: number; fd: number; start: number | bigint; length: number | bigint; iova?: number | bigint },
  ): Placed {
    const { result, out } = this.user.call(uapi.IOMMU_IOAS_MAP_FILE, uapi.IommuIoasMapFile, {
      ioas_id: ioas,
      flags: values.iova === undefined ? RW : FIXED | RW,
      ...values,
    });
    return result === 0 ? { iova: out.iova } : result;
  }

  /** Bytes that were unmapped, or -errno. */
  unmap(ioas: number, iova: number | bigint, length: number | bigint): number | bigint {
    const { result, out } = this.user.call(uapi.IOMMU_IOAS_UNMAP, uapi.IommuIoasUnmap, {
      ioas_id: ioas,
      iova,
      length,
    });
    return result === 0 ? out.length : result;
  }

  option(values: { option_id: number; op: number; object_id?: number; val64?: number | bigint }): number | bigint {
    const { result, out } = this.user.call(uapi.IOMMU_OPTION, uapi.IommuOption, values);
    return result === 0 ? out.val64 : result;
  }

  /** Inclusive ranges, how many there are, and the alignment. */
  ranges(
    ioas: number,
    room = 16,
  ): { result: number; count: number; ranges: (number | bigint)[][]; alignment: unknown } {
    const { address, ram } = this.user.memory(PAGE);
    const { result, out } = this.user.call(uapi.IOMMU_IOAS_IOVA_RANGES, uapi.IommuIoasIovaRanges, {
      ioas_id: ioas,
      num_iovas: room,
      allowed_iovas: address,
    });
    const ranges = Array.from({ length: Math.min(room, out.num_iovas) }, (_, index) => {
      const bytes = new Uint8Array(uapi.IommuIovaRange.size);
      ram.read(0, index * bytes.length, bytes);
      const { start, last } = uapi.IommuIovaRange.decode(uapi.viewOf(bytes));
      return [start, last];
    });
    return { result, count: out.num_iovas, ranges, alignment: out.out_iova_alignment };
  }

  allow(ioas: number, ...ranges: (readonly [start: number | bigint, last: number | bigint])[]): number {
    const bytes = ranges.flatMap(([start, last]) => [...uapi.IommuIovaRange.encode({ start, last })]);
    return this.user.call(uapi.IOMMU_IOAS_ALLOW_IOVAS, uapi.IommuIoasAllowIovas, {
      ioas_id: ioas,
      num_iovas: ranges.length,
      allowed_iovas: ranges.length === 0 ? 0 : this.user.pointer(Uint8Array.from(bytes)),
    }).result;
  }

  /** What a device writes, and whether it could. */
  dmaWrite(iova: number, byte: number, bdf = ENGINE): boolean {
    return (
      this.bench.host.function(bdf).dma.write(Math.floor(iova / 2 ** 32), iova | 0, Uint8Array.of(byte)) === MemTx.OK
    );
  }

  /** The byte that a device reads; undefined if it cannot. */
  dmaRead(iova: number, bdf = ENGINE): number | undefined {
    const byte = new Uint8Array(1);
    const result = this.bench.host.function(bdf).dma.read(Math.floor(iova / 2 ** 32), iova | 0, byte);
    return result === MemTx.OK ? byte[0] : undefined;
  }

  /** The two devices of the bench, each opened by itself and bound. */
  bind(index: 0 | 1): { readonly fd: number; readonly id: number } {
    const { fd, id } = this.user.bind(`/dev/vfio/devices/vfio${index}`);
    this.bench.host.function(DEVICES[index]).config.write(4, 0x6, 2);
    return { fd, id };
  }
}
