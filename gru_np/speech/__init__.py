"""Speech to text: sound files, features, transcribers trained with CTC, and their transcripts.

`audio` reads sound, `features` turns it into what a network reads, `alphabet` turns transcripts
into labels, `transcriber` trains and transcribes, also while the sound is still arriving;
`language` loads language models for the search; `dialling` is the task of the demonstration;
`command` is behind gru-np transcribe and train-speech. The loss is `gru_np.losses.CTC`, the search
for the best text `gru_np.ctc_decoding`.
"""

from gru_np.speech.alphabet import Alphabet as Alphabet
from gru_np.speech.audio import Audio as Audio
from gru_np.speech.audio import AudioError as AudioError
from gru_np.speech.audio import AudioFile as AudioFile
from gru_np.speech.audio import read_audio as read_audio
from gru_np.speech.audio import write_wav as write_wav
from gru_np.speech.errors import ErrorRates as ErrorRates
from gru_np.speech.errors import error_rates as error_rates
from gru_np.speech.features import Features as Features
from gru_np.speech.features import FeatureStream as FeatureStream
from gru_np.speech.features import delta as delta
from gru_np.speech.features import spec_augment as spec_augment
from gru_np.speech.language import load_language_model as load_language_model
from gru_np.speech.plots import plot_posteriors as plot_posteriors
from gru_np.speech.transcriber import Stream as Stream
from gru_np.speech.transcriber import Training as Training
from gru_np.speech.transcriber import Transcriber as Transcriber
from gru_np.speech.transcriber import Transcript as Transcript
from gru_np.speech.transcriber import Word as Word
from gru_np.speech.transcriber import bucketed as bucketed
from gru_np.speech.transcriber import cut_where_quiet as cut_where_quiet
from gru_np.speech.transcriber import pad as pad
from gru_np.speech.transcriber import pad_labels as pad_labels
