/** The options of intel-iommu, spelt as on QEMU's command line. */
import { bool, choice, integer, properties } from '@remora/core';

export const vtdOptions = properties(
  {
    'caching-mode': bool(
      false,
      'Not-present entries may be cached too, so that the guest reports every change: what hosts that do not nest need.',
    ),
    'x-scalable-mode': choice(
      ['off', 'on', 'legacy', 'modern'],
      'off',
      "`on` (also `legacy`, RFC v3.1's word): scalable mode with second-stage tables. `modern`: RFC v3.1's capability set, PASIDs, first-stage tables and virtual commands.",
    ),
    'x-flts': bool(false, 'First-stage instead of second-stage tables in scalable mode; needs `x-scalable-mode`.'),
    'aw-bits': integer({ oneOf: [39, 48, 57] }, 48, 'Input width in bits; also the host address width.'),
    pt: bool(true, 'Pass-through translation type.'),
    intremap: bool(false, 'Interrupt remapping is offered.'),
    eim: bool(false, '32-bit interrupt destinations; needs `intremap`.'),
    'device-iotlb': bool(false, 'Device TLBs (ATS) are offered.'),
    svm: bool(
      false,
      'Page requests (ECAP.PRS), which shared virtual memory needs; needs `device-iotlb`, a first stage and PASIDs.',
    ),
    'snoop-control': bool(false, 'ECAP.SC: second-stage leaves may have the snoop bit, PASID entries PGSNP.'),
    fs1gp: bool(true, '1 GiB pages in the first stage, where that is offered.'),
    'dma-drain': bool(true, 'Draining of DMA at an IOTLB invalidation; scalable mode needs it.'),
    'pasid-bits': integer(
      { min: 0, max: 20 },
      0,
      'Width of PASIDs, 1 .. 20 (QEMU 11); needs scalable mode. 0: none, but 8 with `x-pasid-mode`, 20 with `modern` or `nesting`.',
    ),
    'x-pasid-mode': bool(false, 'PASIDs of 8 bits without virtual commands (QEMU 10.2); needs `x-scalable-mode=on`.'),
    nesting: bool(
      false,
      "Nested translation: what a host's physical unit needs; implies scalable mode with both stages.",
    ),
    'vcmd-layout': choice(
      ['3.3', '3.0'],
      '3.3',
      'Layout of the virtual command registers: of VT-d 3.3 and later, or of 3.0 as RFC v3.1 has it.',
    ),
    compat: choice(['spec', 'qemu-10.2'], 'spec', 'Follow the specification, or QEMU 10.2 where it departs from it.'),
    'fault-records': integer(
      { min: 1, max: 128 },
      1,
      'Number of fault recording registers, 1 .. 128. QEMU has one, the default.',
    ),
    'iotlb-entries': integer({ min: 1, max: 2 ** 20 }, 4096, "Size of the unit's IOTLB in entries."),
    'x-pi': bool(false, 'CAP.PI: posted interrupts; needs `intremap`.'),
    'x-smpwcs': bool(false, 'ECAP.SMPWCS: page walks can be snooped (PWSNP), which accessed and dirty updates need.'),
    'x-ssads': bool(false, 'ECAP.SSADS: accessed and dirty bits in the second stage.'),
    'x-eafs': bool(false, 'ECAP.EAFS: extended accessed bits in the first stage.'),
    'x-rps': bool(false, 'ECAP.RPS: a context entry chooses the PASID of requests without PASID.'),
    'x-ers': bool(
      false,
      'ECAP.ERS: translation requests may ask to execute; means something for requests with a PASID only.',
    ),
    'x-pds': bool(true, 'ECAP.PDS, where `svm` is offered: a wait descriptor drains page requests.'),
    'x-nwfs': bool(true, 'ECAP.NWFS, where `svm` is offered: a translation request may say that it will not write.'),
    'x-dit': bool(
      false,
      'ECAP.DIT: device-TLB invalidations may be throttled by the physical function; needs `device-iotlb`.',
    ),
    'quirk-attributes-collapse': bool(false, 'Q1: any attribute of a first stage is passed on as SRE [A14].'),
    'quirk-device-selective-inverted': bool(
      false,
      'Q2: a device-selective context invalidation skips the device it names [A16].',
    ),
    'quirk-command-on-every-bus': bool(
      false,
      'Q3: a virtual command goes on with the next bus after it succeeded on one [A10].',
    ),
    'quirk-global-rebinds': bool(
      false,
      'Q4: a global PASID-cache invalidation binds everything again and unbinds nothing [A15].',
    ),
    'quirk-domain-replays-all': bool(
      false,
      'Q5: a domain-selective PASID-cache invalidation binds entries of other domains too [A15].',
    ),
    'quirk-directory-size-ignored': bool(false, 'Q6: the size of the PASID directory (PDTS) is ignored [A15].'),
    'quirk-off-refused': bool(
      false,
      'Q8: `x-scalable-mode=off` is refused, and scalable mode does without `dma-drain` [A22].',
    ),
    'quirk-format-only-logged': bool(false, 'Q9: a host with another first-stage format is only logged [A14].'),
    'quirk-bare-rebind': bool(false, 'Q10: a changed entry is bound over the old one, without unbinding it [A14].'),
    'quirk-every-type-binds': bool(false, 'Q11: entries of any translation type are bound [A14].'),
    'quirk-generation-wraps': bool(false, 'Q13: generation numbers wrap after 512 global invalidations [A12].'),
    'quirk-flushes-pasid0': bool(false, 'Q14: flushes of PASID 0 reach the host [A17, A20].'),
    'quirk-failures-invisible': bool(false, 'Q15: a host failure is logged and otherwise ignored [A14].'),
    'quirk-high-dword-command': bool(
      false,
      "Q16: a write of VCMD's high dword alone executes that dword as a command [A10].",
    ),
    'quirk-translation-off-keeps': bool(false, 'Q17: reset and TE changes keep what still resolves [A12].'),
    'quirk-absent-objects': bool(false, 'Q18: cache objects stay for entries that are not there [A12].'),
    'quirk-call-per-device': bool(
      false,
      'Q-PERDEV: one host call per device, also for devices that share a container (behaviours 45, 46).',
    ),
    'quirk-rid-pasid-gates': bool(
      false,
      'Q-RIDPASID: PASIDs of a device whose PASID-0 entry does not resolve are absent (behaviour 26).',
    ),
    'quirk-cached-domain-only': bool(
      false,
      'A PASID-selective invalidation that names a changed entry by its new domain id does nothing (behaviour 23) [A12].',
    ),
    'quirk-width-checked': bool(
      false,
      'Q-AW: a first-stage entry with an unsupported second-stage width is absent (behaviour 65).',
    ),
    'quirk-address-mask-limited': bool(
      false,
      'Q-AM18: a page-selective PASID-IOTLB flush with an address mask above 18 is a queue error (behaviour 39).',
    ),
    'quirk-any-pasid-device-tlb': bool(
      false,
      'Q-T8: a PASID device-TLB descriptor is accepted whatever it says (behaviour 47) [A21].',
    ),
    propagation: bool(
      true,
      'Guest invalidations and virtual commands reach the hosts of passed-through devices; off: as before RFC v3.1',
    ),
  },
  // QEMU 11's spellings.
  { 'scalable-mode': 'x-scalable-mode', flts: 'x-flts', fsts: 'x-flts' },
);

/** A complete configuration. Names in it are option names. */
export type VtdConfig = ReturnType<typeof vtdOptions.parse>;
