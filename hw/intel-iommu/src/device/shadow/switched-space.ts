import { AddressSpace, memoryBatch, Region, type RegionTranslator, WHOLE_SPACE } from '@remora/core';

/** What a host maps for a function while it is not translated, and while it is: one of the two is shown. */
export class SwitchedSpace {
  readonly space: AddressSpace;
  readonly #direct: Region;
  readonly #translated: Region;

  constructor(name: string, translator: RegionTranslator) {
    const root = Region.container(name, WHOLE_SPACE);
    const { root: memory } = translator.target;
    this.#direct = Region.alias(`${name}-direct`, memory, 0, memory.size);
    this.#translated = Region.iommu(`${name}-dmar`, WHOLE_SPACE, translator);
    this.#translated.enabled = false;
    root.add(0, this.#direct);
    root.add(0, this.#translated);
    this.space = new AddressSpace(name, root);
  }

  get translated(): boolean {
    return this.#translated.enabled;
  }

  set translated(on: boolean) {
    if (this.translated === on) return;
    memoryBatch(() => {
      this.#direct.enabled = !on;
      this.#translated.enabled = on;
    });
  }
}
