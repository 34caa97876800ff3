/** How one request ended, as its client saw it. */
export type Outcome =
  | { readonly kind: 'ok' }
  /** The client went away on purpose. */
  | { readonly kind: 'left' }
  | ErrorOutcome
  /** Nobody listened. */
  | { readonly kind: 'refused' }
  /** The connection ended before the answer's last frame did. */
  | { readonly kind: 'cut'; readonly begun: boolean }
  /** An answer without a terminal frame, whose connection ended in good order. */
  | { readonly kind: 'unfinished'; readonly what: string }
  | { readonly kind: 'wrong'; readonly what: string }
  /** No answer within the client's bound. */
  | { readonly kind: 'hung'; readonly begun: boolean }

export interface ErrorOutcome {
  readonly kind: 'error'
  readonly code: string
  readonly status: number
  readonly retryable: boolean
  /** In a frame, after the answer had begun. */
  readonly inStream: boolean
  readonly message: string
  readonly retryAfterMs: number | undefined
}

/** The class that a table counts it under. */
export function classOf(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'error':
      return `${outcome.code}${outcome.inStream ? ' in the stream' : ''}`
    case 'refused':
      return 'connection refused'
    case 'cut':
      return outcome.begun ? 'connection cut in the stream' : 'connection cut'
    case 'unfinished':
      return 'ended without its last frame'
    case 'wrong':
      return 'wrong answer'
    case 'hung':
      return 'no answer in its time'
    case 'left':
      return 'left by the client'
    case 'ok':
      return 'answered'
  }
}
