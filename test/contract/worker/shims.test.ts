import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { eventually, extraOf, workers } from './support.ts'

const start = workers()

describe('shims', () => {
  it('work by position and by name, without importing torch or transformers early', async () => {
    const worker = await start({ module: 'shims', env: { BERTH_GPU: 'AMD' } })
    const { chunks, end } = await worker.infer('m')
    expect(end).toEqual({ done: true })
    expect(extraOf(chunks)).toEqual({
      levels: [0, 1, 2, 3],
      gpu: 'AMD',
      types: ['NVIDIA', 'AMD', 'INTEL', 'NO_GPU'],
      vulkan: 'bool',
      hash: createHash('sha256').update('abc').digest('hex'),
      no_hash: null,
      bad_hash: expect.stringContaining("ValueError: 'md0'"),
      none_hash: expect.stringContaining('TypeError'),
      attn: [null, 'flash_attention_2', 'flash_attention_2', 'sdpa'],
      bad_attn: expect.stringContaining("ValueError: attn: 'magic'"),
      bnb: [null, null],
      bnb_config: { load_in_8bit: false, load_in_4bit: true },
      dtypes: ['float16', 'float32', 'bfloat16', 'float32', 'int8', 'float32'].map((name) => `torch.${name}`),
      bad_dtype: expect.stringContaining("ValueError: 'f17'"),
      torch: 'torch',
      pip: 'str',
      imported_early: [],
    })
    await eventually(() =>
      expect(worker.logs).toEqual([
        { level: 'warning', message: 'written' },
        { level: 'critical', message: 'printed' },
        { level: 'error', message: 'by the other names' },
      ]),
    )
  })
})
