/**
 * The virtual command interface: offered by software units only, a guest gets its PASIDs through it. Its layout changed between
 * VT-d 3.2 and 3.3, and Linux changed with it (5.15).
 */
export interface VirtualCommandLayout {
  /** Capability register: bit 0 = PASID allocation and free are supported. */
  readonly VCCAP: number;
  /** Extended operand. */
  readonly VCMD_EO: number;
  readonly VCMD: number;
  readonly VCRSP: number;
  /** Position of the PASID in VCMD (the operand) and in VCRSP (the result); it is 20 bits wide and may cross dwords. */
  readonly pasidShift: number;
  /** Position of the status code in VCRSP. */
  readonly statusShift: number;
  readonly status: { readonly ok: number; readonly undefined: number; readonly 'no-pasid': number };
}

/** VT-d 3.0 to 3.2, RFC v3.1 [A10], Linux 5.7 to 5.14. */
export const VCMD_3_0: VirtualCommandLayout = {
  VCCAP: 0xe00,
  VCMD_EO: 0xe08,
  VCMD: 0xe10,
  VCRSP: 0xe20,
  pasidShift: 8,
  statusShift: 1,
  status: { ok: 0, undefined: 1, 'no-pasid': 2 },
};

/** VT-d 3.3 and later, Linux 5.15 to 6.2. */
export const VCMD_3_3: VirtualCommandLayout = {
  VCCAP: 0xe30,
  VCMD_EO: 0xe08,
  VCMD: 0xe00,
  VCRSP: 0xe10,
  pasidShift: 16,
  statusShift: 1,
  status: { ok: 0, undefined: 1, 'no-pasid': 16 },
};

/** VCCAP.PAS: PASID allocation and free. */
export const VCCAP_PAS = 1;
/** VCRSP.IP: a command is in progress. */
export const VCRSP_IP = 1;
/** Commands, bits 7:0 of VCMD. */
export const VirtualCommandCode = { NULL: 0, ALLOC_PASID: 1, FREE_PASID: 2 } as const;

/** The registers of `vcmd-layout`. */
export function virtualCommandLayout(version: '3.0' | '3.3'): VirtualCommandLayout {
  return version === '3.0' ? VCMD_3_0 : VCMD_3_3;
}
