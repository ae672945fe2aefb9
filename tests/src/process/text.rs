//! Small text for tests: sentences put together from word lists in five languages, the same every time.

use std::fmt::Write;
use std::io;
use std::path::Path;

const LANGUAGES: [(&str, usize, [&str; 4]); 5] = [
    (
        "fr",
        160,
        [
            "le chat,la maison,un essaim,la lumière,l'abeille,le modèle,une forêt,le navire",
            "regarde,traverse,éclaire,apprend,construit,emporte,retrouve,écoute",
            "la rivière,les étoiles,un vieux livre,le jardin,la mémoire,une chanson,l'hiver,la ville",
            "doucement,sans bruit,chaque matin,avec soin,pour toujours,au loin",
        ],
    ),
    (
        "en",
        70,
        [
            "the cat,the house,a swarm,the light,the bee,the model,a forest,the ship",
            "watches,crosses,lights,learns,builds,carries,finds,hears",
            "the river,the stars,an old book,the garden,the memory,a song,the winter,the town",
            "softly,without a sound,every morning,with care,for ever,far away",
        ],
    ),
    (
        "de",
        60,
        [
            "die Katze,das Haus,ein Schwarm,das Licht,die Biene,das Modell,ein Wald,das Schiff",
            "sieht,quert,beleuchtet,lernt,baut,trägt,findet,hört",
            "den Fluss,die Sterne,ein altes Buch,den Garten,das Gedächtnis,ein Lied,den Winter,die Stadt",
            "leise,ohne Laut,jeden Morgen,mit Sorgfalt,für immer,in der Ferne",
        ],
    ),
    (
        "es",
        60,
        [
            "el gato,la casa,un enjambre,la luz,la abeja,el modelo,un bosque,el barco",
            "mira,cruza,ilumina,aprende,construye,lleva,encuentra,escucha",
            "el río,las estrellas,un libro viejo,el jardín,la memoria,una canción,el invierno,la ciudad",
            "suavemente,sin ruido,cada mañana,con cuidado,para siempre,a lo lejos",
        ],
    ),
    (
        "it",
        60,
        [
            "il gatto,la casa,uno sciame,la luce,l'ape,il modello,una foresta,la nave",
            "guarda,attraversa,illumina,impara,costruisce,porta,ritrova,ascolta",
            "il fiume,le stelle,un vecchio libro,il giardino,la memoria,una canzone,l'inverno,la città",
            "piano,senza rumore,ogni mattina,con cura,per sempre,lontano",
        ],
    ),
];

/// Numbers that follow from the one before: enough to vary sentences.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn word<'a>(&mut self, list: &'a str) -> &'a str {
        let words: Vec<&str> = list.split(',').collect();
        words[self.below(words.len())]
    }
}

/// Writes `texts.jsonl` below `dir`: 410 documents of about 1,500 bytes, French the largest language.
///
/// # Errors
/// What the file system says.
pub fn write_corpus(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut numbers = Numbers(2026);
    let mut out = String::new();
    for (language, documents, lists) in LANGUAGES {
        for document in 0..documents {
            let mut text = String::new();
            for sentence in 0..30 {
                let [subject, verb, object, how] = lists.map(|list| numbers.word(list));
                let end = if sentence % 6 == 5 { "\n\n" } else { " " };
                let _ = write!(text, "{subject} {verb} {object} {how}.{end}");
            }
            let row = serde_json::json!({
                "text": text.trim_end(), "language": language, "source": "sentences",
                "id": format!("sentences/{language}/{document}"), "license": "CC0-1.0",
            });
            let _ = writeln!(out, "{row}");
        }
    }
    std::fs::write(dir.join("texts.jsonl"), out)
}
