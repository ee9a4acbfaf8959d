/** `remora walk MACHINE BDF PASID IOVA`: every table that is read to translate an address, as the guest left them. */
import { hex, hiOf, loOf, type Wide } from '@remora/bits';
import { Access, NO_PASID, Translation } from '@remora/core';
import { faultName } from '@hw/intel-iommu';
import type { Machine, MachineDefinition } from '@remora/machine';
import { parseBdf } from '@remora/pci';
import { close, runSteps } from './run-steps.js';
import type { Streams } from './streams.js';
import { UsageError } from './usage-error.js';
import { WalkingUnit } from './walking-unit.js';

export interface WalkOptions {
  readonly bdf: string;
  /** A number, or `-` for a request without PASID. */
  readonly pasid: string;
  readonly iova: string;
  readonly seed: number;
  /** Step of the machine's guest after which to look. */
  readonly after?: string;
}

const MAX_PASID = 0xf_ffff;

/** @throws UsageError for an address, PASID or device that cannot be; ConfigError if the machine cannot be built. */
export function walk(definition: MachineDefinition, options: WalkOptions, streams: Streams): void {
  const pasid = options.pasid === '-' ? NO_PASID : wholeNumber('pasid', options.pasid, MAX_PASID);
  const iova = wholeNumber('iova', options.iova, 2n ** 64n - 1n);
  const machine = runSteps(definition, { seed: options.seed, until: options.after ?? definition.settled });
  try {
    const requesterId = requesterOf(machine, options.bdf);
    for (const unit of WalkingUnit.of(machine, options.bdf)) {
      streams.stdout.write(`${unit.title}\n`);
      const out = new Translation();
      const id = unit.requesterId ?? requesterId;
      const reason = unit.translate(id, Number(pasid), hiOf(iova), loOf(iova), Access.READ, out);
      for (const line of unit.lines) streams.stdout.write(`  ${line}\n`);
      streams.stdout.write(
        `  ${reason === 0 ? `${hexOf(iova)} -> ${answer(out, iova)}` : `fault ${faultName(reason)}`}\n`,
      );
    }
  } finally {
    close(machine);
  }
}

function requesterOf(machine: Machine, bdf: string): number {
  const { bus = 0, devfn } = parseBdf('bdf', bdf);
  if (machine.config.functionAt(bdf) === undefined) throw new UsageError(`${machine.name} has no device at ${bdf}`);
  return (bus << 8) | devfn;
}

function answer(out: Translation, iova: Wide): string {
  const rights = ['r', 'w', 'x'].filter((_, bit) => out.access & (1 << bit)).join('');
  const offset = BigInt.asUintN(Math.min(out.shift, 64), BigInt(iova));
  const address = ((BigInt(out.hi >>> 0) << 32n) | BigInt(out.lo >>> 0)) + offset;
  return `${hexOf(address)} ${rights} (page of 2^${out.shift} bytes)`;
}

function hexOf(value: Wide): string {
  return hex(hiOf(value), loOf(value));
}

function wholeNumber(what: string, text: string, maximum: Wide): Wide {
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(text) || BigInt(text) > BigInt(maximum)) {
    throw new UsageError(`${what}: "${text}" is not a whole number up to ${hexOf(maximum)}`);
  }
  return BigInt(text);
}
