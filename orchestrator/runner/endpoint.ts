/** Where a runner listens; engine.ts has the same shape. */
export type RunnerEndpoint =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }
