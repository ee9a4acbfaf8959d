/** Ways to get what Linux uses wrong, in the profile of the specification: recordings of remora live find them. See mutants.ts. */
import { DEVICE, mutant, type Mutant } from './mutants.js';

const INVALIDATE = `${DEVICE}invalidate.js`;

export const LIVE_MUTANTS: readonly Mutant[] = [
  mutant(
    'the IOTLB is deaf to the flushes of a Linux that saves them up',
    INVALIDATE,
    'iotlb(granularity, domain, hi, lo, mask, leaf) {',
    'iotlb(granularity, domain, hi, lo, mask, leaf) { return 0;',
    { recording: 'ir-6.1' },
  ),
  mutant(
    'pages of a PASID stay cached when they are flushed',
    INVALIDATE,
    'const first = iotlb.asid(domain, pasid, TlbKind.FIRST_STAGE);',
    'return; const first = iotlb.asid(domain, pasid, TlbKind.FIRST_STAGE);',
    { recording: 'scalable-7.2' },
  ),
  mutant(
    'a remapped interrupt goes to another processor',
    `${DEVICE}interrupt-remapping.js`,
    'fields.destination.set(message, 0, destination);',
    'fields.destination.set(message, 0, destination ^ 2);',
    { recording: 'ir-6.1' },
  ),
  mutant(
    'an invalidation wait tells nobody that it is done',
    `${DEVICE}descriptors.js`,
    'if (this.#environment.memory.store(words[3], words[2], status, 0, 1) !== MemTx.OK) {',
    'if (false) {',
    { recording: 'scalable-7.2' },
  ),
  mutant(
    'nobody is answered a page request',
    `${DEVICE}page-responses.js`,
    'endpoint?.(requesterId)?.pageResponse(pasid, group, code);',
    '',
    { recording: 'dsa-7.2' },
  ),
  mutant(
    'a page request does not say for which process it is',
    `${DEVICE}page-request-queue.js`,
    'fields.pasid.set(words, 0, pasid);',
    '',
    { recording: 'dsa-7.2' },
  ),
  mutant(
    'a device TLB is not told what Linux has unmapped',
    `${DEVICE}descriptors.js`,
    'this.#deviceTlbs.send(sourceId, this.#throttleId(words, sourceId), pasid, global, hi, lo, shift);',
    '',
    { recording: 'dsa-7.2' },
  ),
  mutant(
    'a device TLB is told to forget pages of another process',
    `${DEVICE}descriptors.js`,
    'this.#flushDeviceTlb(words, fields.sid.get(words, 0), fields.pasid.get(words, 0), shift, global);',
    'this.#flushDeviceTlb(words, fields.sid.get(words, 0), fields.pasid.get(words, 0) ^ 3, shift, global);',
    { recording: 'dsa-7.2' },
  ),
  mutant(
    'a device TLB may write wherever something is mapped',
    `${DEVICE}ats-requests.js`,
    'out.access = answer.access & ',
    'out.access = Access.READ_WRITE | answer.access & ',
    { recording: 'dsa-7.2' },
  ),
  mutant(
    "a host keeps what Linux has unmapped in a process' tables",
    INVALIDATE,
    'return this.#propagation?.pasidIotlbInvalidate?.(granularity, domain, pasid, hi, lo, mask, leaf) ?? 0;',
    'return 0;',
    { recording: 'dsa-iommufd-7.2' },
  ),
  mutant(
    "a fault of the host's unit is told as another one",
    `${DEVICE}host-faults.js`,
    '[Fault.SFS_2]: Fault.SFS_2,',
    '[Fault.SFS_2]: Fault.SFS_1,',
    { recording: 'dsa-faults-7.2' },
  ),
  mutant(
    'of a PASID that a host gives, Linux gets the lower bits',
    `${DEVICE}virtual-command.js`,
    'answer.result & PASID_BITS',
    'answer.result & 0xfff',
    { recording: 'vcmd-6.1' },
  ),
];
