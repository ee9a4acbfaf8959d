/**
 * What the unit tells those who trace it: QEMU's events, by QEMU's names, with their values in QEMU's order as far as both have them. Acts
 * for which QEMU has no event have none here. Addresses and descriptors have 64 bits, as text.
 */
import { Trace, type TracePoints } from '@remora/core';
import type { VtdEnvironment } from './environment.js';

export const VTD_EVENTS = {
  // Registers and commands.
  vtd_reg_read: ['addr', 'size'],
  vtd_reg_write: ['addr', 'size', 'value'],
  vtd_reg_write_gcmd: ['status', 'value'],
  vtd_reg_write_fectl: ['value'],
  vtd_reg_write_iectl: ['value'],
  vtd_reg_ics_clear_ip: [],
  vtd_reg_dmar_root: ['addr', 'scalable'],
  vtd_reg_ir_root: ['addr', 'entries'],
  vtd_dmar_enable: ['on'],
  vtd_ir_enable: ['on'],
  vtd_reset_exit: [],
  // The invalidation queue; offsets are counted in descriptors.
  vtd_inv_qi_enable: ['on'],
  vtd_inv_qi_setup: ['addr', 'entries'],
  vtd_inv_qi_head: ['head'],
  vtd_inv_qi_tail: ['tail'],
  vtd_inv_qi_fetch: [],
  vtd_warn_invalid_qi_tail: ['tail'],
  vtd_inv_desc: ['type', 'hi', 'lo'],
  vtd_inv_desc_cc_global: [],
  vtd_inv_desc_cc_domain: ['did'],
  vtd_inv_desc_cc_devices: ['sid', 'fm'],
  vtd_inv_desc_iotlb_global: [],
  vtd_inv_desc_iotlb_domain: ['did'],
  vtd_inv_desc_iotlb_pages: ['did', 'addr', 'am'],
  vtd_inv_desc_iotlb_pasid: ['did', 'pasid'],
  vtd_inv_desc_iotlb_pasid_pages: ['did', 'addr', 'am', 'pasid'],
  vtd_inv_desc_iec: ['g', 'iidx', 'im'],
  vtd_inv_desc_wait_sw: ['addr', 'data'],
  vtd_inv_desc_wait_irq: ['interrupt'],
  vtd_inv_desc_wait_write_fail: ['hi', 'lo'],
  // Caches and tables.
  vtd_context_cache_reset: [],
  vtd_iotlb_reset: ['why'],
  vtd_iotlb_cc_hit: ['bus', 'devfn'],
  vtd_iotlb_cc_update: ['bus', 'devfn'],
  vtd_iotlb_page_hit: ['sid', 'pasid', 'iova', 'page'],
  vtd_iotlb_page_update: ['sid', 'pasid', 'iova', 'page', 'did'],
  vtd_re_not_present: ['bus'],
  vtd_ce_not_present: ['bus', 'devfn'],
  // Requests.
  vtd_dmar_translate: ['bus', 'slot', 'fn', 'iova', 'gpa', 'mask'],
  vtd_translate_pt: ['sid', 'addr'],
  vtd_dmar_fault: ['sid', 'reason', 'addr', 'write'],
  vtd_fault_disabled: [],
  vtd_frr_new: ['index', 'hi', 'lo'],
  vtd_fsts_ppf: ['set'],
  vtd_fsts_clear_ip: [],
  vtd_irq_generate: ['addr', 'data'],
  // Interrupt requests.
  vtd_ir_remap_msi_req: ['addr', 'data'],
  vtd_ir_irte_get: ['index', 'lo', 'hi'],
  vtd_ir_remap: ['index', 'tm', 'vector', 'dlm', 'dst', 'dm'],
  vtd_ir_remap_msi: ['addr', 'data', 'to', 'as'],
} as const;

export type VtdTrace = TracePoints<typeof VTD_EVENTS>;

/** The events of a unit; without a Trace, only DEBUG can have them. */
export function vtdTrace({ name, trace = new Trace() }: VtdEnvironment): VtdTrace {
  return trace.points(name, VTD_EVENTS);
}
