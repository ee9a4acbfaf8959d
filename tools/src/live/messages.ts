/** What Linux may say of the unit and the disk, what it must say, and what it must not say of anything. */
import type { LiveMode } from './modes.js';
import type { LiveAddresses } from './verdict.js';

/** All that Linux may say of a unit that works, besides what it must. */
const USUAL = [
  /^DMAR: Host address width \d+$/,
  /^DMAR: DRHD base: 0x[0-9a-f]+ flags: 0x0$/,
  /^DMAR: dmar0: reg_base_addr [0-9a-f]+ ver 1:0 cap [0-9a-f]+ ecap [0-9a-f]+$/,
  /^DMAR: No (RMRR|ATSR|SATC) found$/,
];
const EXPECTED = [
  'DMAR: IOMMU enabled',
  'DMAR: dmar0: Using Queued invalidation',
  'DMAR: Intel(R) Virtualization Technology for Directed I/O',
];
const REMAPPING_USUAL = {
  off: [],
  xapic: [/^DMAR-IR: IOAPIC id \d+ under DRHD base {2}0x[0-9a-f]+ IOMMU 0$/, /^DMAR-IR: dmar0 does not support EIM$/],
  x2apic: [
    /^DMAR-IR: IOAPIC id \d+ under DRHD base {2}0x[0-9a-f]+ IOMMU 0$/,
    /^DMAR-IR: Queued invalidation will be enabled to support x2apic and Intr-remapping\.$/,
  ],
} as const;
const FAULT_STATUS = /^DMAR: DRHD: handling fault status reg 2$/;

/** All that the disk's driver may say. */
const DISK_USUAL = [
  /^nvme nvme0: pci function [0-9a-f:.]+$/,
  /^nvme nvme0: \d+\/0\/0 default\/read\/poll queues$/,
  /^nvme nvme0: Ignoring bogus Namespace Identifiers$/,
  /^nvme nvme0: passthrough uses implicit buffer lengths$/,
];
const OF_DISK = /^nvme|\bnvme\d/;

/** Words of a kernel in trouble. */
const COMPLAINTS = [
  'WARNING:',
  'BUG:',
  'Call Trace:',
  'Oops',
  'Kernel panic',
  'Tainted:',
  'general protection fault',
  'unable to handle',
  'Unable to handle',
  'soft lockup',
  'hard LOCKUP',
  'detected stall',
  'self-detected stall',
  'blocked for more than',
  'nobody cared',
  'No irq handler for vector',
  'spurious',
  'I/O error',
  'AER: ',
  'Hardware Error',
  'Out of memory',
  'segfault at',
];
/** Said by ports that have Advanced Error Reporting and nothing to report. */
const NO_COMPLAINT = /^pcieport [0-9a-f:.]+: AER: enabled with IRQ \d+$/;

export function kernelComplaints(messages: readonly string[]): string[] {
  return messages.filter(each => {
    if (OF_DISK.test(each)) return !DISK_USUAL.some(usual => usual.test(each));
    return !NO_COMPLAINT.test(each) && COMPLAINTS.some(words => each.includes(words));
  });
}

/** Messages about the unit that are neither usual nor expected. */
export function unusualMessages(mode: LiveMode, at: LiveAddresses, messages: readonly string[]): string[] {
  const usual = [...USUAL, ...REMAPPING_USUAL[mode.remapping], ...faultMessages(mode, at)];
  const expected = expectedMessages(mode);
  return messages.filter(each => !expected.includes(each) && !usual.some(pattern => pattern.test(each)));
}

/** What should have been said of the unit, once, and was not. */
export function missingMessages(mode: LiveMode, messages: readonly string[]): string[] {
  return expectedMessages(mode)
    .filter(expected => messages.filter(each => each === expected).length !== 1)
    .map(expected => `not once: ${expected}`);
}

function expectedMessages({ remapping }: LiveMode): string[] {
  return [...EXPECTED, ...(remapping === 'off' ? [] : [`DMAR-IR: Enabled IRQ remapping in ${remapping} mode`])];
}

/** What Linux says of the provoked fault. */
export function faultMessages(mode: LiveMode, { edu, fault }: LiveAddresses): RegExp[] {
  if (mode.fault === undefined) return [];
  const reason = mode.fault.reason.toString(16).padStart(2, '0');
  // Since 7 Linux writes the domain, too.
  const source = `(?:${literal(edu)}|${literal(edu.slice(edu.indexOf(':') + 1))})`;
  const decoded = literal(` fault addr 0x${fault.toString(16)} [fault reason 0x${reason}] ${mode.fault.message}`);
  return [FAULT_STATUS, new RegExp(`^DMAR: \\[DMA Read NO_PASID\\] Request device \\[${source}\\]${decoded}$`)];
}

/** As a part of a regular expression. */
function literal(text: string): string {
  return text.replace(/[[\]().]/g, '\\$&');
}
