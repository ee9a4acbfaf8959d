/**
 * The options of intel-iommu, spelt as on QEMU's command line. `vtdConfig()` fills in what is not given and checks that the
 * rest makes sense together.
 */
export interface VtdConfig {
  /** Not-present entries may be cached too, so that the guest reports every change. Default off. */
  readonly 'caching-mode': boolean;
  /**
   * `on` (also `legacy`, RFC v3.1's word): scalable mode with second-stage tables. `modern`: RFC v3.1's capability set, PASIDs,
   * first-stage tables and virtual commands. Default `off`.
   */
  readonly 'x-scalable-mode': 'off' | 'on' | 'legacy' | 'modern';
  /** First-stage instead of second-stage tables in scalable mode; needs `x-scalable-mode`. Default off. */
  readonly 'x-flts': boolean;
  /** Input width in bits; also the host address width. Default 48. */
  readonly 'aw-bits': 39 | 48 | 57;
  /** Pass-through translation type. Default on. */
  readonly pt: boolean;
  /** Interrupt remapping is offered. Default off. */
  readonly intremap: boolean;
  /** 32-bit interrupt destinations; needs `intremap`. Default off. */
  readonly eim: boolean;
  /** Device TLBs (ATS) are offered. Default off. */
  readonly 'device-iotlb': boolean;
  /** The snoop bit of second-stage leaves. Default off. */
  readonly 'snoop-control': boolean;
  /** 1 GiB pages in the first stage, where that is offered. Default on. */
  readonly fs1gp: boolean;
  /** Draining of DMA at an IOTLB invalidation; scalable mode needs it. Default on. */
  readonly 'dma-drain': boolean;
  /** PASIDs of 8 bits without virtual commands (QEMU); needs `x-scalable-mode=on`. Default off. */
  readonly 'x-pasid-mode': boolean;
  /** Nested translation: what a host's physical unit needs; implies scalable mode with both stages. Default off. */
  readonly nesting: boolean;
  /** Layout of the virtual command registers: of VT-d 3.3 and later, or of 3.0 as RFC v3.1 has it. */
  readonly 'vcmd-layout': '3.3' | '3.0';
  /** Follow the specification, or QEMU 10.2 where it departs from it. */
  readonly compat: 'spec' | 'qemu-10.2';
  /** Number of fault recording registers, 1 .. 128. QEMU has one, the default. */
  readonly 'fault-records': number;
  /** Size of the unit's IOTLB in entries. */
  readonly 'iotlb-entries': number;

  /** Q1: any attribute of a first stage is passed on as SRE [A14]. */
  readonly 'quirk-attributes-collapse': boolean;
  /** Q2: a device-selective context invalidation skips the device it names [A16]. */
  readonly 'quirk-device-selective-inverted': boolean;
  /** Q3: a virtual command goes on with the next bus after it succeeded on one [A10]. */
  readonly 'quirk-command-on-every-bus': boolean;
  /** Q4: a global PASID-cache invalidation binds everything again and unbinds nothing [A15]. */
  readonly 'quirk-global-rebinds': boolean;
  /** Q5: a domain-selective PASID-cache invalidation binds entries of other domains too [A15]. */
  readonly 'quirk-domain-replays-all': boolean;
  /** Q6: the size of the PASID directory (PDTS) is ignored [A15]. */
  readonly 'quirk-directory-size-ignored': boolean;
  /** Q8: `x-scalable-mode=off` is refused, and scalable mode does without `dma-drain` [A22]. */
  readonly 'quirk-off-refused': boolean;
  /** Q9: a host with another first-stage format is only logged [A14]. */
  readonly 'quirk-format-only-logged': boolean;
  /** Q10: a changed entry is bound over the old one, without unbinding it [A14]. */
  readonly 'quirk-bare-rebind': boolean;
  /** Q11: entries of any translation type are bound [A14]. */
  readonly 'quirk-every-type-binds': boolean;
  /** Q13: generation numbers wrap after 512 global invalidations [A12]. */
  readonly 'quirk-generation-wraps': boolean;
  /** Q14: flushes of PASID 0 reach the host [A17, A20]. */
  readonly 'quirk-flushes-pasid0': boolean;
  /** Q15: a host failure is logged and otherwise ignored [A14]. */
  readonly 'quirk-failures-invisible': boolean;
  /** Q16: a write of VCMD's high dword alone executes that dword as a command [A10]. */
  readonly 'quirk-high-dword-command': boolean;
  /** Q17: reset and TE changes keep what still resolves [A12]. */
  readonly 'quirk-translation-off-keeps': boolean;
  /** Q18: cache objects stay for entries that are not there [A12]. */
  readonly 'quirk-absent-objects': boolean;
  /** Q-PERDEV: one host call per device, also for devices that share a container (behaviours 45, 46). */
  readonly 'quirk-call-per-device': boolean;
  /** Q-RIDPASID: PASIDs of a device whose PASID-0 entry does not resolve are absent (behaviour 26). */
  readonly 'quirk-rid-pasid-gates': boolean;
  /** Q-AW: a first-stage entry with an unsupported second-stage width is absent (behaviour 65). */
  readonly 'quirk-width-checked': boolean;
  /** Q-AM18: a page-selective PASID-IOTLB flush with an address mask above 18 is a queue error (behaviour 39). */
  readonly 'quirk-address-mask-limited': boolean;
  /** Q-T8: a PASID device-TLB descriptor is accepted whatever it says (behaviour 47) [A21]. */
  readonly 'quirk-any-pasid-device-tlb': boolean;
}

/** QEMU's defaults. */
export const VTD_DEFAULTS: VtdConfig = {
  'caching-mode': false,
  'x-scalable-mode': 'off',
  'x-flts': false,
  'aw-bits': 48,
  pt: true,
  intremap: false,
  eim: false,
  'device-iotlb': false,
  'snoop-control': false,
  fs1gp: true,
  'dma-drain': true,
  'x-pasid-mode': false,
  nesting: false,
  'vcmd-layout': '3.3',
  compat: 'spec',
  'fault-records': 1,
  'iotlb-entries': 4096,
  'quirk-attributes-collapse': false,
  'quirk-device-selective-inverted': false,
  'quirk-command-on-every-bus': false,
  'quirk-global-rebinds': false,
  'quirk-domain-replays-all': false,
  'quirk-directory-size-ignored': false,
  'quirk-off-refused': false,
  'quirk-format-only-logged': false,
  'quirk-bare-rebind': false,
  'quirk-every-type-binds': false,
  'quirk-generation-wraps': false,
  'quirk-flushes-pasid0': false,
  'quirk-failures-invisible': false,
  'quirk-high-dword-command': false,
  'quirk-translation-off-keeps': false,
  'quirk-absent-objects': false,
  'quirk-call-per-device': false,
  'quirk-rid-pasid-gates': false,
  'quirk-width-checked': false,
  'quirk-address-mask-limited': false,
  'quirk-any-pasid-device-tlb': false,
};
