/** What an SMMU remembers, planted by a test: translations, context descriptors, and what devices keep. Commands remove what smmuv3.md 5.4 says. */
import { decodeSmmuFlush, SmmuOpcode, type SmmuFlush } from './commands.js';

/** A translation of stage 1, or of both, of the page frame `page`. */
export interface SmmuTranslation {
  readonly vmid: number;
  readonly asid: number;
  readonly page: number;
}

export interface SmmuContext {
  readonly sid: number;
  readonly ssid: number;
}

export interface SmmuDeviceTranslation extends SmmuContext {
  readonly page: number;
}

export class SmmuCaches {
  translations: SmmuTranslation[] = [];
  contexts: SmmuContext[] = [];
  devices: SmmuDeviceTranslation[] = [];

  /** Executes a command of the unit's own, not a guest's. */
  execute(command: Int32Array): void {
    const flush = decodeSmmuFlush(command);
    this.translations = this.translations.filter(entry => !hitsTranslation(flush, entry));
    this.contexts = this.contexts.filter(entry => !hitsContext(flush, entry));
    this.devices = this.devices.filter(entry => !hitsDevice(flush, entry));
  }
}

function hitsTranslation(flush: SmmuFlush, { vmid, asid, page }: SmmuTranslation): boolean {
  if (flush.opcode < SmmuOpcode.TLBI_NH_ALL || flush.opcode > SmmuOpcode.TLBI_NH_VAA) return false;
  return flush.vmid === vmid && (flush.asid === -1 || flush.asid === asid) && covers(flush, page);
}

function hitsContext(flush: SmmuFlush, { sid, ssid }: SmmuContext): boolean {
  if (flush.opcode !== SmmuOpcode.CFGI_CD && flush.opcode !== SmmuOpcode.CFGI_CD_ALL) return false;
  return flush.sid === sid && (flush.ssid === -1 || flush.ssid === ssid);
}

function hitsDevice(flush: SmmuFlush, { sid, ssid, page }: SmmuDeviceTranslation): boolean {
  if (flush.opcode !== SmmuOpcode.ATC_INV || flush.sid !== sid) return false;
  return (flush.ssid === -1 || flush.ssid === ssid) && covers(flush, page);
}

function covers({ first, pages }: SmmuFlush, page: number): boolean {
  return page >= first && page < first + pages;
}
