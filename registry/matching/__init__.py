"""Which of very many capabilities fits a need, how sure that is, and why.

* :mod:`registry.matching.interface`: what a matcher is, and what it answers.
* :mod:`registry.matching.documents`, :mod:`registry.matching.words`: what is read of a capability, and how.
* :mod:`registry.matching.lexical`: the matcher that needs nothing else; :mod:`registry.matching.counting` and
  :mod:`registry.matching.postings` are what words count for and where they are, :mod:`registry.matching.spelling` and
  :mod:`registry.matching.related` its words spelled alike and its words that mean alike, :mod:`registry.matching.meaning`
  what words mean together, :mod:`registry.matching.speech` which cannot be compared, by
  :mod:`registry.matching.scripts` and :mod:`registry.matching.languages`.
* :mod:`registry.matching.goals`: a sub-task beside the request it belongs to.
* :mod:`registry.matching.calibration`, :mod:`registry.matching.decision`: how likely the best is right, and what to do then.
* :mod:`registry.matching.refit`: the same, moved by how an installation's own decisions turned out.
* :mod:`registry.matching.contract`, :mod:`registry.matching.evidence`: what cannot be used, and what has proved itself.
* :mod:`registry.matching.duplicates`: what is there already, and what contradicts itself.
* :mod:`registry.matching.passages`: entries of the board, ranked for a question in the same way.
* :mod:`registry.matching.evaluation`: all of that, measured on :mod:`registry.matching.corpora`, beside
  :mod:`registry.matching.baselines`; :mod:`registry.matching.abstention` is how well it is known that nothing fits,
  :mod:`registry.matching.composing` what is made of needs that take several.
* :mod:`registry.matching.sentences`: a sentence encoder out of a folder of weights; :mod:`registry.matching.weights` reads them,
  :mod:`registry.matching.pieces` takes texts apart, :mod:`registry.matching.numpy_runtime` or
  :mod:`registry.matching.onnx_runtime` runs them.

Enters: documents one at a time, as they come and go, and needs in words. Leaves: candidates with scores and reasons.
"""

from registry.matching.contract import Contract
from registry.matching.decision import MatchCandidate, MatchDecision, Prices, decide
from registry.matching.documents import Document
from registry.matching.interface import Candidate, Findings, Matcher, Signals
from registry.matching.lexical import LexicalMatcher

__all__ = [
    "Candidate",
    "Contract",
    "Document",
    "Findings",
    "LexicalMatcher",
    "MatchCandidate",
    "MatchDecision",
    "Matcher",
    "Prices",
    "Signals",
    "decide",
]
